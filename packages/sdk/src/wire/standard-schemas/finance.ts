/** Standard schemas of finance: a payment and its receipt (specification §6.4). */
import type { Static } from 'typebox'
import { Type } from '../type.ts'
import {
  Amount,
  Currency,
  DateTime,
  MAX_AMOUNT,
  Party,
  PaymentMethodName,
  Text,
  WebAddress,
} from './parts.ts'

const Money = Type.Number({
  exclusiveMinimum: 0,
  maximum: MAX_AMOUNT,
  description: 'What the payee gets, fees apart',
})

export const Payment = Type.Object(
  {
    kind: Type.Optional(
      Type.Enum(['payment', 'transfer', 'authorization', 'refund'], {
        default: 'payment',
        description: 'An authorization only reserves the amount',
      }),
    ),
    amount: Money,
    currency: Currency,
    payee: Party('Who gets it'),
    payer: Type.Optional(Party('Who pays')),
    account: Type.Optional(Text(128, 'Of the payee at the method: IBAN, wallet, merchant id')),
    method: Type.Optional(PaymentMethodName),
    token: Type.Optional(Text(1024, 'From the payment provider; never a card number')),
    reference: Text(128, 'The payer’s own; the same reference again is the same payment'),
    description: Type.Optional(Text(256, 'What for, as on the statement')),
    invoice_id: Type.Optional(Text(128)),
    order_id: Type.Optional(Text(128)),
    original_payment_id: Type.Optional(Text(128, 'That a refund gives back')),
    max_fee: Type.Optional(Amount('Refuse rather than charge a higher fee')),
    execute_at: Type.Optional(DateTime('Not before then')),
    expires_at: Type.Optional(DateTime('Not after then')),
  },
  {
    $id: 'agentmesh/finance/payment/v1',
    title: 'Payment',
    description: 'An instruction to pay somebody.',
    examples: [
      {
        amount: 69.8,
        currency: 'EUR',
        payee: { name: 'Voltra Shop', amid: '32hYegm9CwQeQ31d593RoCrqrkCZ' },
        method: 'stripe',
        reference: 'alice-2026-0117-pay',
        description: 'Order o-20260201-77',
        order_id: 'o-20260201-77',
      },
    ],
  },
)
export type Payment = Static<typeof Payment>

export const PaymentReceipt = Type.Object(
  {
    payment_id: Text(128),
    reference: Type.Optional(Text(128, 'The payer’s, as in the payment')),
    status: Type.Enum([
      'succeeded',
      'authorized',
      'pending',
      'action_required',
      'failed',
      'cancelled',
      'refunded',
    ]),
    amount: Money,
    currency: Currency,
    fee: Type.Optional(Amount('Charged to the payer besides')),
    method: Type.Optional(PaymentMethodName),
    payee: Type.Optional(Party('Who got it')),
    paid_at: Type.Optional(DateTime('When it was done')),
    available_at: Type.Optional(DateTime('When the payee can use it')),
    action_url: Type.Optional(WebAddress),
    failure_code: Type.Optional(
      Type.Enum([
        'declined',
        'insufficient_funds',
        'limit_exceeded',
        'method_unavailable',
        'payee_unknown',
        'expired',
        'not_allowed',
        'other',
      ]),
    ),
    failure_reason: Type.Optional(Text(512)),
    receipt_url: Type.Optional(WebAddress),
  },
  {
    $id: 'agentmesh/finance/payment-receipt/v1',
    title: 'Payment receipt',
    description: 'What became of a payment; with action_required, action_url is where a person goes on.',
    examples: [
      {
        payment_id: 'pay_8841',
        reference: 'alice-2026-0117-pay',
        status: 'succeeded',
        amount: 69.8,
        currency: 'EUR',
        fee: 0.35,
        method: 'stripe',
        paid_at: '2026-02-01T12:00:09Z',
      },
    ],
  },
)
export type PaymentReceipt = Static<typeof PaymentReceipt>
