/** Standard schemas of the marketplace: bids on skills and delegated tasks (specification §6.4). */
import type { Static } from 'typebox'
import { Type } from '../type.ts'
import { AmidText } from '../schema.ts'
import {
  Amount,
  Attributes,
  Count,
  Currency,
  DateTime,
  List,
  MediaType,
  Name,
  PaymentMethods,
  Reference,
  UniqueList,
  Sha256Hex,
  Text,
  WebAddress,
} from './parts.ts'

const Pricing = Type.Enum(['one_time', 'per_request', 'per_hour', 'per_day', 'per_month', 'free'], {
  default: 'one_time',
  description: 'What one amount pays for',
})

const Terms = Type.Object(
  {
    license: Type.Optional(Text(64, 'SPDX expression, or a name')),
    exclusive: Type.Optional(Type.Boolean({ default: false })),
    transferable: Type.Optional(Type.Boolean({ default: false })),
    valid_from: Type.Optional(DateTime('Begin')),
    valid_until: Type.Optional(DateTime('End')),
    max_requests: Type.Optional(Count(1, 1_000_000_000)),
    availability: Type.Optional(Text(64, 'Free text such as 24/7')),
    response_time_ms: Type.Optional(Count(0, 86_400_000)),
    support: Type.Optional(Text(512)),
    text: Type.Optional(Text(4096, 'Everything else')),
  },
  { description: 'What is agreed besides the price' },
)

export const SkillBid = Type.Object(
  {
    side: Type.Enum(['buy', 'sell'], { description: 'Whether the sender wants the skill or has it' }),
    skill: Type.Object({
      name: Name,
      skill_id: Type.Optional(Text(128, 'In the listing that is bid on')),
      version: Type.Optional(Text(32)),
      description: Type.Optional(Text(2048)),
      capabilities: Type.Optional(UniqueList(Text(128), 32, { description: 'Such as travel/flights' })),
      attributes: Type.Optional(Attributes),
      sha256: Type.Optional(Sha256Hex),
      url: Type.Optional(WebAddress),
    }),
    access: Type.Optional(
      Type.Enum(['use', 'rent', 'own'], {
        default: 'use',
        description: 'Call it, run it for a time, or have it for good',
      }),
    ),
    amount: Amount('A unit of pricing'),
    currency: Currency,
    pricing: Type.Optional(Pricing),
    quantity: Type.Optional(Count(1, 1_000_000_000, 'Units of pricing')),
    negotiable: Type.Optional(Type.Boolean({ default: true })),
    terms: Type.Optional(Terms),
    payment_methods: Type.Optional(PaymentMethods),
    expires_at: Type.Optional(DateTime('The bid holds until then')),
    reference: Type.Optional(Text(128, 'The bidder’s own; the same reference again replaces the bid')),
    counter_to: Type.Optional(Text(128, 'bid_id of the answer this is a counter-bid to')),
    message: Type.Optional(Text(1024)),
  },
  {
    $id: 'agentmesh/marketplace/skill-bid/v1',
    title: 'Skill bid',
    description: 'An offer to buy or to sell the use of a skill.',
    examples: [
      {
        side: 'buy',
        skill: { name: 'Invoice extraction', capabilities: ['research/data_analysis'] },
        amount: 0.02,
        currency: 'USD',
        pricing: 'per_request',
        quantity: 5000,
        terms: { response_time_ms: 3000, valid_until: '2026-03-01T00:00:00Z' },
        payment_methods: ['agentmesh_credits'],
        expires_at: '2026-02-03T12:00:00Z',
        reference: 'bid-17',
      },
    ],
  },
)
export type SkillBid = Static<typeof SkillBid>

export const SkillBidResponse = Type.Object(
  {
    bid_id: Text(128, 'To name in a counter-bid'),
    reference: Type.Optional(Text(128, 'The bidder’s, as in the bid')),
    decision: Type.Enum(['accepted', 'countered', 'pending', 'rejected']),
    reason: Type.Optional(Text(512)),
    decide_by: Type.Optional(DateTime('When a pending bid is decided')),
    counter: Type.Optional(
      Type.Object(
        {
          amount: Amount('A unit of pricing'),
          currency: Currency,
          pricing: Type.Optional(Pricing),
          quantity: Type.Optional(Count(1, 1_000_000_000)),
          terms: Type.Optional(Terms),
          expires_at: Type.Optional(DateTime('The counter-offer holds until then')),
        },
        { description: 'With decision countered: what would be accepted' },
      ),
    ),
    agreement: Type.Optional(
      Type.Object(
        {
          agreement_id: Text(128),
          amount: Amount('A unit of pricing'),
          currency: Currency,
          starts_at: Type.Optional(DateTime('Begin')),
          payment_methods: Type.Optional(PaymentMethods),
          payment_reference: Type.Optional(Reference),
          access: Type.Optional(
            Type.Object({
              amid: Type.Optional(AmidText),
              url: Type.Optional(WebAddress),
              instructions: Type.Optional(Text(2048)),
            }),
          ),
        },
        { description: 'With decision accepted: what was agreed' },
      ),
    ),
  },
  {
    $id: 'agentmesh/marketplace/skill-bid-response/v1',
    title: 'Skill bid response',
    description: 'The answer to a bid: accepted, refused, or what would be accepted.',
    examples: [
      {
        bid_id: 'b-9001',
        reference: 'bid-17',
        decision: 'countered',
        reason: 'Price holds from 10,000 requests on',
        counter: { amount: 0.03, currency: 'USD', pricing: 'per_request', quantity: 5000 },
      },
    ],
  },
)
export type SkillBidResponse = Static<typeof SkillBidResponse>

const SharedFile = Type.Object({
  name: Text(256),
  media_type: Type.Optional(MediaType),
  text: Type.Optional(Type.String({ maxLength: 32_768, description: 'The content, when it is short text' })),
  url: Type.Optional(WebAddress),
  sha256: Type.Optional(Sha256Hex),
  size_bytes: Type.Optional(Count(0, Number.MAX_SAFE_INTEGER)),
})

const Data = Type.Record(Type.String(), Type.Unknown(), {
  maxProperties: 256,
  description: 'Named values, any JSON',
})

export const TaskDelegation = Type.Object(
  {
    title: Text(256),
    description: Text(16_384, 'What is to be done'),
    reference: Type.Optional(Text(128, 'The sender’s own; the same reference again is the same task')),
    inputs: Type.Optional(Data),
    files: Type.Optional(List(SharedFile, 32)),
    deliverables: Type.Optional(
      List(
        Type.Object({
          name: Text(256),
          description: Type.Optional(Text(2048)),
          media_type: Type.Optional(MediaType),
        }),
        32,
        { description: 'What is handed over at the end' },
      ),
    ),
    acceptance_criteria: Type.Optional(
      List(Text(512), 32, { description: 'When it is done, each to be checked' }),
    ),
    required_skills: Type.Optional(UniqueList(Text(128), 32)),
    priority: Type.Optional(Type.Enum(['low', 'normal', 'high', 'critical'], { default: 'normal' })),
    start_at: Type.Optional(DateTime('Not before then')),
    deadline: Type.Optional(DateTime('Done by then')),
    max_cost: Type.Optional(Amount('All together')),
    currency: Type.Optional(Currency),
    payment_methods: Type.Optional(PaymentMethods),
    constraints: Type.Optional(
      Type.Object({
        may_delegate: Type.Optional(
          Type.Boolean({ default: false, description: 'Whether others may be asked to do a part' }),
        ),
        confidential: Type.Optional(
          Type.Boolean({ default: false, description: 'Inputs are passed to nobody and deleted at the end' }),
        ),
        allowed_tools: Type.Optional(UniqueList(Text(64), 64)),
        forbidden_tools: Type.Optional(UniqueList(Text(64), 64)),
        region: Type.Optional(Text(64, 'Where data may be processed')),
        text: Type.Optional(Text(2048)),
      }),
    ),
    report_every_seconds: Type.Optional(Count(1, 86_400, 'How often a status message is wanted')),
  },
  {
    $id: 'agentmesh/marketplace/task-delegation/v1',
    title: 'Task delegation',
    description: 'A piece of work for another agent.',
    examples: [
      {
        title: 'Summarize the minutes',
        description: 'One page in English: decisions, owners, dates.',
        files: [
          { name: 'minutes.txt', media_type: 'text/plain', text: 'Present: A, B. Decided: ship on Monday.' },
        ],
        deliverables: [{ name: 'summary.md', media_type: 'text/markdown' }],
        acceptance_criteria: ['Every decision has an owner'],
        deadline: '2026-02-02T09:00:00+01:00',
        max_cost: 2,
        currency: 'USD',
        constraints: { confidential: true },
      },
    ],
  },
)
export type TaskDelegation = Static<typeof TaskDelegation>

export const TaskResult = Type.Object(
  {
    task_id: Type.Optional(Text(128)),
    reference: Type.Optional(Text(128, 'The sender’s, as in the task')),
    status: Type.Enum(['accepted', 'in_progress', 'completed', 'partial', 'failed', 'declined', 'cancelled']),
    reason: Type.Optional(Text(1024, 'Why it is not completed')),
    summary: Type.Optional(Text(16_384)),
    outputs: Type.Optional(Data),
    files: Type.Optional(List(SharedFile, 32, { description: 'The deliverables, under their names' })),
    criteria: Type.Optional(
      List(Type.Object({ criterion: Text(512), met: Type.Boolean(), note: Type.Optional(Text(512)) }), 32, {
        description: 'The acceptance criteria, each with its outcome',
      }),
    ),
    progress: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    cost: Type.Optional(Amount('All together')),
    currency: Type.Optional(Currency),
    payment_reference: Type.Optional(Reference),
    delegated_to: Type.Optional(UniqueList(AmidText, 32, { description: 'Who did a part' })),
    started_at: Type.Optional(DateTime('Begin')),
    completed_at: Type.Optional(DateTime('End')),
    expected_at: Type.Optional(DateTime('When an accepted task will be done')),
  },
  {
    $id: 'agentmesh/marketplace/task-result/v1',
    title: 'Task result',
    description: 'What became of a task: its results, or why there are none.',
    examples: [
      {
        status: 'completed',
        summary: 'Two decisions, both with owners.',
        files: [{ name: 'summary.md', media_type: 'text/markdown', text: '- Ship on Monday (B)' }],
        criteria: [{ criterion: 'Every decision has an owner', met: true }],
        cost: 0.4,
        currency: 'USD',
        completed_at: '2026-02-01T12:04:00Z',
      },
    ],
  },
)
export type TaskResult = Static<typeof TaskResult>
