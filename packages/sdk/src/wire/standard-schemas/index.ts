/**
 * The standard schemas (specification §6.4): what `parameters` of a request and `results` of a response hold for common
 * business. The registry publishes them, agents check against them, `spec/schemas/` has them as draft-07 JSON Schema.
 *
 *     request schema   <- intent: category, subcategory, action
 *     response schema  <- named in the response, and by `response_format` in the request
 *
 * A published version never changes meaning: fields may be added to it, since unknown ones pass; anything else is a new
 * version, and both stay here.
 */
import type { Static, TSchema } from 'typebox'
import { Order, OrderConfirmation, ProductResults, ProductSearch } from './commerce.ts'
import { Payment, PaymentReceipt } from './finance.ts'
import { SkillBid, SkillBidResponse, TaskDelegation, TaskResult } from './marketplace.ts'
import { CalendarQuery, CalendarResults } from './productivity.ts'
import { FlightResults, FlightSearch, HotelResults, HotelSearch } from './travel.ts'

export type { Order, OrderConfirmation, ProductResults, ProductSearch } from './commerce.ts'
export type { Payment, PaymentReceipt } from './finance.ts'
export { SCHEMA_FORMATS } from './formats.ts'
export type { SkillBid, SkillBidResponse, TaskDelegation, TaskResult } from './marketplace.ts'
export type { CalendarQuery, CalendarResults } from './productivity.ts'
export type { FlightResults, FlightSearch, HotelResults, HotelSearch } from './travel.ts'

/** What a request is about when its parameters are of a schema: any of the subcategories with any of the actions. */
export interface SchemaIntent {
  readonly category: string
  readonly subcategories: readonly string[]
  readonly actions: readonly string[]
}

export type StandardSchema =
  | { readonly kind: 'request'; readonly schema: TSchema; readonly intent: SchemaIntent }
  | { readonly kind: 'response'; readonly schema: TSchema; readonly answers: string }

export const STANDARD_SCHEMAS = {
  'agentmesh/travel/flight-search/v1': {
    kind: 'request',
    schema: FlightSearch,
    intent: { category: 'travel', subcategories: ['flights'], actions: ['search'] },
  },
  'agentmesh/travel/flight-results/v1': {
    kind: 'response',
    schema: FlightResults,
    answers: 'agentmesh/travel/flight-search/v1',
  },
  'agentmesh/travel/hotel-search/v1': {
    kind: 'request',
    schema: HotelSearch,
    intent: { category: 'travel', subcategories: ['hotels'], actions: ['search'] },
  },
  'agentmesh/travel/hotel-results/v1': {
    kind: 'response',
    schema: HotelResults,
    answers: 'agentmesh/travel/hotel-search/v1',
  },
  'agentmesh/commerce/product-search/v1': {
    kind: 'request',
    schema: ProductSearch,
    intent: {
      category: 'commerce',
      subcategories: ['shopping', 'price_comparison'],
      actions: ['search', 'compare'],
    },
  },
  'agentmesh/commerce/product-results/v1': {
    kind: 'response',
    schema: ProductResults,
    answers: 'agentmesh/commerce/product-search/v1',
  },
  'agentmesh/commerce/order/v1': {
    kind: 'request',
    schema: Order,
    intent: { category: 'commerce', subcategories: ['ordering'], actions: ['order'] },
  },
  'agentmesh/commerce/order-confirmation/v1': {
    kind: 'response',
    schema: OrderConfirmation,
    answers: 'agentmesh/commerce/order/v1',
  },
  'agentmesh/finance/payment/v1': {
    kind: 'request',
    schema: Payment,
    intent: {
      category: 'finance',
      subcategories: ['payments', 'transfers'],
      actions: ['pay', 'transfer', 'refund'],
    },
  },
  'agentmesh/finance/payment-receipt/v1': {
    kind: 'response',
    schema: PaymentReceipt,
    answers: 'agentmesh/finance/payment/v1',
  },
  'agentmesh/productivity/calendar-query/v1': {
    kind: 'request',
    schema: CalendarQuery,
    intent: {
      category: 'productivity',
      subcategories: ['calendar', 'scheduling'],
      actions: ['query', 'search'],
    },
  },
  'agentmesh/productivity/calendar-results/v1': {
    kind: 'response',
    schema: CalendarResults,
    answers: 'agentmesh/productivity/calendar-query/v1',
  },
  'agentmesh/marketplace/skill-bid/v1': {
    kind: 'request',
    schema: SkillBid,
    intent: { category: 'marketplace', subcategories: ['skill_trading'], actions: ['bid'] },
  },
  'agentmesh/marketplace/skill-bid-response/v1': {
    kind: 'response',
    schema: SkillBidResponse,
    answers: 'agentmesh/marketplace/skill-bid/v1',
  },
  'agentmesh/marketplace/task-delegation/v1': {
    kind: 'request',
    schema: TaskDelegation,
    intent: { category: 'marketplace', subcategories: ['task_bidding'], actions: ['delegate'] },
  },
  'agentmesh/marketplace/task-result/v1': {
    kind: 'response',
    schema: TaskResult,
    answers: 'agentmesh/marketplace/task-delegation/v1',
  },
} as const satisfies Record<string, StandardSchema>

export type StandardSchemaName = keyof typeof STANDARD_SCHEMAS
/** The type of a value of a standard schema. */
export type StandardValue<N extends StandardSchemaName> = Static<(typeof STANDARD_SCHEMAS)[N]['schema']>

/** A standard schema by its name, or undefined for every other name. */
export function standardSchema(name: string): StandardSchema | undefined {
  return Object.hasOwn(STANDARD_SCHEMAS, name) ? STANDARD_SCHEMAS[name as StandardSchemaName] : undefined
}

/** A `SchemaName` in its two parts: `agentmesh/travel/flight-search` and 1. */
export function splitSchemaName(name: string): { readonly base: string; readonly version: number } {
  const at = name.lastIndexOf('/v')
  return { base: name.slice(0, at), version: Number(name.slice(at + 2)) }
}

/** A standard schema as the draft-07 document that is published under its name. */
export function schemaDocument(name: StandardSchemaName): Record<string, unknown> {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    ...(JSON.parse(JSON.stringify(STANDARD_SCHEMAS[name].schema)) as object),
  }
}
