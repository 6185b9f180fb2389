/** Standard schemas of productivity: asking a calendar (specification §6.4). */
import type { Static } from 'typebox'
import { Type } from '../type.ts'
import {
  ClockTime,
  Count,
  DateTime,
  List,
  MaxResults,
  Party,
  Results,
  Text,
  TimeZone,
  UniqueList,
  WebAddress,
} from './parts.ts'

const Person = Party('By mail address or AMID where these are known')

export const CalendarQuery = Type.Object(
  {
    kind: Type.Optional(
      Type.Enum(['free_busy', 'find_slot', 'events'], {
        default: 'free_busy',
        description: 'When somebody is taken, when all have time, or what is on',
      }),
    ),
    start: DateTime('From here on'),
    end: DateTime('Up to here'),
    time_zone: Type.Optional(TimeZone),
    participants: Type.Optional(List(Person, 64, { description: 'Whose calendars; absent: the owner’s' })),
    calendars: Type.Optional(UniqueList(Text(128), 32, { description: 'Names of calendars; absent: all' })),
    duration_minutes: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1440, default: 30, description: 'Of the slot looked for' }),
    ),
    buffer_minutes: Type.Optional(Count(0, 240, 'Kept free before and after the slot')),
    working_hours: Type.Optional(
      Type.Object(
        {
          from: ClockTime('Local time'),
          to: ClockTime('Local time'),
          days: Type.Optional(UniqueList(Type.Enum(['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']), 7)),
        },
        { description: 'Slots lie within these, in time_zone' },
      ),
    ),
    query: Type.Optional(Text(256, 'Words an event has in its title or text')),
    include_details: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Titles, places and people, where the owner gives them away',
      }),
    ),
    max_results: Type.Optional(MaxResults),
  },
  {
    $id: 'agentmesh/productivity/calendar-query/v1',
    title: 'Calendar query',
    description: 'When people have time, or what is in their calendars.',
    examples: [
      {
        kind: 'find_slot',
        start: '2026-02-09T00:00:00+01:00',
        end: '2026-02-14T00:00:00+01:00',
        time_zone: 'Europe/Berlin',
        participants: [{ email: 'bob@example.org' }],
        duration_minutes: 45,
        working_hours: { from: '09:00', to: '17:30', days: ['mon', 'tue', 'wed', 'thu', 'fri'] },
      },
    ],
  },
)
export type CalendarQuery = Static<typeof CalendarQuery>

export const CalendarResults = Results(
  {
    kind: Type.Enum(['free', 'busy', 'tentative', 'out_of_office', 'event'], {
      description: 'free: a slot that would do; event: an entry of the calendar',
    }),
    start: DateTime('Start'),
    end: DateTime('End'),
    time_zone: Type.Optional(TimeZone),
    all_day: Type.Optional(Type.Boolean({ default: false })),
    participant: Type.Optional(Person),
    available: Type.Optional(
      List(Person, 64, { description: 'Who has time in a free slot; absent: all asked for' }),
    ),
    event_id: Type.Optional(Text(256)),
    title: Type.Optional(Text(256)),
    location: Type.Optional(Text(256)),
    description: Type.Optional(Text(2048)),
    organizer: Type.Optional(Person),
    attendees: Type.Optional(List(Person, 64)),
    response: Type.Optional(Type.Enum(['accepted', 'tentative', 'declined', 'none'])),
    meeting_url: Type.Optional(WebAddress),
    recurring: Type.Optional(Type.Boolean()),
  },
  {
    $id: 'agentmesh/productivity/calendar-results/v1',
    title: 'Calendar results',
    description: 'Times and entries in order of their start; free slots best first.',
    examples: [
      [
        { kind: 'free', start: '2026-02-10T14:00:00+01:00', end: '2026-02-10T14:45:00+01:00' },
        {
          kind: 'event',
          start: '2026-02-10T15:00:00+01:00',
          end: '2026-02-10T16:00:00+01:00',
          event_id: 'e-77',
          title: 'Design review',
          location: 'Room 4',
        },
      ],
    ],
  },
)
export type CalendarResults = Static<typeof CalendarResults>
