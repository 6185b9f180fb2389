/** Standard schemas of commerce: finding products and ordering them (specification §6.4). */
import type { Static } from 'typebox'
import { Type } from '../type.ts'
import { AmidText } from '../schema.ts'
import {
  Address,
  Amount,
  Attributes,
  CalendarDate,
  Count,
  Country,
  Currency,
  DateTime,
  List,
  MaxResults,
  Name,
  Party,
  PaymentMethodName,
  PaymentMethods,
  Rating,
  Reference,
  Results,
  UniqueList,
  Text,
  WebAddress,
} from './parts.ts'

const Condition = Type.Enum(['new', 'refurbished', 'used'])
const Gtin = Type.String({ pattern: '^[0-9]{8,14}$', description: 'EAN, UPC or ISBN-13' })
const Quantity = (description?: string) => Count(1, 1_000_000, description)

export const ProductSearch = Type.Object(
  {
    query: Text(512, 'What is looked for, in words or a name'),
    gtin: Type.Optional(Gtin),
    category: Type.Optional(Name),
    brands: Type.Optional(UniqueList(Text(64), 32)),
    condition: Type.Optional(UniqueList(Condition, 3, { description: 'Any of these' })),
    attributes: Type.Optional(Attributes),
    quantity: Type.Optional(Quantity('How many are wanted')),
    min_price: Type.Optional(Amount('Of one piece')),
    max_price: Type.Optional(Amount('Of one piece')),
    currency: Type.Optional(Currency),
    ship_to: Type.Optional(
      Type.Object(
        { country: Country, postal_code: Type.Optional(Text(16)), city: Type.Optional(Name) },
        { description: 'Enough of the address to tell price and time of shipping' },
      ),
    ),
    deliver_by: Type.Optional(CalendarDate('Must be there on this day at the latest')),
    in_stock_only: Type.Optional(Type.Boolean({ default: false })),
    min_rating: Type.Optional(Type.Number({ minimum: 0, maximum: 10, description: 'Out of 10' })),
    sort: Type.Optional(
      Type.Enum(['best', 'price', 'total_price', 'rating', 'delivery'], { default: 'best' }),
    ),
    max_results: Type.Optional(MaxResults),
  },
  {
    $id: 'agentmesh/commerce/product-search/v1',
    title: 'Product search',
    description: 'Products for sale, also to compare their prices.',
    examples: [
      {
        query: 'USB-C charger 65 W',
        condition: ['new'],
        max_price: 40,
        currency: 'EUR',
        ship_to: { country: 'DE', postal_code: '10115' },
        in_stock_only: true,
        max_results: 5,
      },
    ],
  },
)
export type ProductSearch = Static<typeof ProductSearch>

export const ProductResults = Results(
  {
    product_id: Text(128, 'To name in an order'),
    name: Text(256),
    brand: Type.Optional(Text(64)),
    gtin: Type.Optional(Gtin),
    description: Type.Optional(Text(2048)),
    condition: Type.Optional(Condition),
    attributes: Type.Optional(Attributes),
    price: Amount('Of one piece, taxes included'),
    list_price: Type.Optional(Amount('Before a discount')),
    currency: Currency,
    shipping: Type.Optional(
      Type.Object({
        price: Amount('In the same currency'),
        method: Type.Optional(Text(64)),
        earliest: Type.Optional(CalendarDate('First day it can be there')),
        latest: Type.Optional(CalendarDate('Last day it will be there')),
      }),
    ),
    availability: Type.Optional(
      Type.Enum(['in_stock', 'low_stock', 'preorder', 'backorder', 'out_of_stock'], { default: 'in_stock' }),
    ),
    quantity_available: Type.Optional(Count(0, 1_000_000_000)),
    seller: Type.Optional(
      Type.Object({
        name: Type.Optional(Name),
        amid: Type.Optional(AmidText),
        rating: Type.Optional(Rating),
      }),
    ),
    rating: Type.Optional(Rating),
    return_days: Type.Optional(Count(0, 3650)),
    warranty_months: Type.Optional(Count(0, 1200)),
    url: Type.Optional(WebAddress),
    image_urls: Type.Optional(List(WebAddress, 16)),
    offer_expires_at: Type.Optional(DateTime('The price holds until then')),
  },
  {
    $id: 'agentmesh/commerce/product-results/v1',
    title: 'Product results',
    description: 'The products found, best match first, none when there are none.',
    examples: [
      [
        {
          product_id: 'chg-65-eu',
          name: 'Compact charger 65 W',
          brand: 'Voltra',
          gtin: '4006381333931',
          price: 34.9,
          currency: 'EUR',
          shipping: { price: 0, earliest: '2026-02-03', latest: '2026-02-05' },
          availability: 'in_stock',
          rating: { score: 4.6, count: 812 },
        },
      ],
    ],
  },
)
export type ProductResults = Static<typeof ProductResults>

export const Order = Type.Object(
  {
    items: Type.Array(
      Type.Object({
        product_id: Text(128, 'As in the product results'),
        quantity: Quantity(),
        name: Type.Optional(Text(256)),
        options: Type.Optional(Attributes),
        price: Type.Optional(Amount('Of one piece, as it was offered')),
      }),
      { minItems: 1, maxItems: 100 },
    ),
    currency: Currency,
    max_total: Type.Optional(Amount('Refuse the order rather than charge more, all included')),
    reference: Type.Optional(Text(128, 'The buyer’s own; the same reference again is the same order')),
    customer: Type.Optional(Party('Who orders')),
    ship_to: Type.Optional(Address),
    bill_to: Type.Optional(Address),
    delivery: Type.Optional(
      Type.Object({
        method: Type.Optional(Text(64, 'Such as standard, express, pickup, digital')),
        not_before: Type.Optional(DateTime('Earliest delivery')),
        not_after: Type.Optional(DateTime('Latest delivery')),
        instructions: Type.Optional(Text(512)),
      }),
    ),
    payment: Type.Optional(
      Type.Object(
        {
          method: PaymentMethodName,
          token: Type.Optional(Text(1024, 'From the payment provider; never a card number')),
        },
        { description: 'How it is paid; absent: the confirmation says how' },
      ),
    ),
    substitutions_allowed: Type.Optional(Type.Boolean({ default: false })),
    discount_codes: Type.Optional(UniqueList(Text(64), 8)),
    gift_message: Type.Optional(Text(512)),
    note: Type.Optional(Text(1024)),
  },
  {
    $id: 'agentmesh/commerce/order/v1',
    title: 'Order',
    description: 'A binding order of products.',
    examples: [
      {
        items: [{ product_id: 'chg-65-eu', quantity: 2, price: 34.9 }],
        currency: 'EUR',
        max_total: 75,
        reference: 'alice-2026-0117',
        customer: { name: 'Alice Example', email: 'alice@example.org' },
        ship_to: { lines: ['Parkstraße 7'], city: 'Berlin', postal_code: '10115', country: 'DE' },
        payment: { method: 'stripe', token: 'pm_1Nx' },
      },
    ],
  },
)
export type Order = Static<typeof Order>

export const OrderConfirmation = Type.Object(
  {
    order_id: Text(128),
    reference: Type.Optional(Text(128, 'The buyer’s, as in the order')),
    status: Type.Enum([
      'received',
      'awaiting_payment',
      'confirmed',
      'processing',
      'shipped',
      'delivered',
      'cancelled',
      'rejected',
    ]),
    reason: Type.Optional(Text(512, 'Why it was rejected or cancelled')),
    items: Type.Optional(
      List(
        Type.Object({
          product_id: Text(128),
          quantity: Count(0, 1_000_000, 'That will be delivered'),
          name: Type.Optional(Text(256)),
          price: Amount('Of one piece'),
          substitute_for: Type.Optional(Text(128, 'The product that was ordered')),
        }),
        100,
      ),
    ),
    subtotal: Type.Optional(Amount('Of the items')),
    shipping_price: Type.Optional(Amount('Of shipping')),
    tax: Type.Optional(Amount('In the total')),
    discount: Type.Optional(Amount('Taken off')),
    total: Amount('To pay, all included'),
    currency: Currency,
    payment: Type.Optional(
      Type.Object({
        status: Type.Enum(['due', 'pending', 'paid', 'failed', 'refunded']),
        methods: Type.Optional(PaymentMethods),
        url: Type.Optional(WebAddress),
        reference: Type.Optional(Reference),
        due_by: Type.Optional(DateTime('The order lapses when it is not paid by then')),
      }),
    ),
    delivery: Type.Optional(
      Type.Object({
        earliest: Type.Optional(CalendarDate('First day it can be there')),
        latest: Type.Optional(CalendarDate('Last day it will be there')),
        carrier: Type.Optional(Text(64)),
        tracking_number: Type.Optional(Text(128)),
        tracking_url: Type.Optional(WebAddress),
      }),
    ),
    cancellable_until: Type.Optional(DateTime('Can be cancelled until then')),
    created_at: Type.Optional(DateTime('When the order was taken')),
    updated_at: Type.Optional(DateTime('When the status was last changed')),
  },
  {
    $id: 'agentmesh/commerce/order-confirmation/v1',
    title: 'Order confirmation',
    description: 'What became of an order: taken, on its way, or refused and why.',
    examples: [
      {
        order_id: 'o-20260201-77',
        reference: 'alice-2026-0117',
        status: 'confirmed',
        items: [{ product_id: 'chg-65-eu', quantity: 2, price: 34.9 }],
        subtotal: 69.8,
        shipping_price: 0,
        tax: 11.14,
        total: 69.8,
        currency: 'EUR',
        payment: { status: 'paid' },
        delivery: { earliest: '2026-02-03', latest: '2026-02-05' },
      },
    ],
  },
)
export type OrderConfirmation = Static<typeof OrderConfirmation>
