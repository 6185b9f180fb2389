/** Standard schemas of travel: flights and hotels (specification §6.4). */
import type { Static } from 'typebox'
import { Type } from '../type.ts'
import {
  Address,
  Amount,
  Booking,
  CalendarDate,
  ClockTime,
  Coordinates,
  Count,
  Currency,
  DateTime,
  List,
  MaxResults,
  Name,
  Rating,
  Results,
  UniqueList,
  Text,
  WebAddress,
} from './parts.ts'

const Airport = (description: string) => Type.String({ pattern: '^[A-Z]{3}$', description })
const CabinClass = Type.Enum(['economy', 'premium_economy', 'business', 'first'])
const FlightNumber = Type.String({ minLength: 3, maxLength: 16, description: 'Such as LH1234' })

export const FlightSearch = Type.Object(
  {
    origin: Airport('Where the journey begins: IATA code of an airport or city'),
    destination: Airport('Where it ends'),
    date: CalendarDate('Local date of departure at the origin'),
    return_date: Type.Optional(CalendarDate('Local date of the way back; absent for one way')),
    flexible_days: Type.Optional(Count(0, 7, 'Days earlier or later that will do')),
    passengers: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 9, default: 1, description: 'All of them' }),
    ),
    children: Type.Optional(Count(0, 8, 'Of the passengers, 2 to 11 years old')),
    infants: Type.Optional(Count(0, 4, 'Of the passengers, under 2 years old')),
    class: Type.Optional(
      Type.Enum(['economy', 'premium_economy', 'business', 'first'], { default: 'economy' }),
    ),
    checked_bags: Type.Optional(Count(0, 9, 'For each passenger')),
    max_price: Type.Optional(Amount('For all passengers together')),
    currency: Type.Optional(Currency),
    preferences: Type.Optional(
      Type.Object(
        {
          max_stops: Type.Optional(Count(0, 5)),
          airline_preference: Type.Optional(
            UniqueList(Text(64), 16, { description: 'IATA airline codes or names' }),
          ),
          airlines_excluded: Type.Optional(UniqueList(Text(64), 16)),
          time_preference: Type.Optional(
            Type.Enum(['early_morning', 'morning', 'afternoon', 'evening', 'night', 'any']),
          ),
          refundable: Type.Optional(Type.Boolean()),
        },
        { description: 'Wishes: results that meet them come first, others may still be returned' },
      ),
    ),
    max_results: Type.Optional(MaxResults),
  },
  {
    $id: 'agentmesh/travel/flight-search/v1',
    title: 'Flight search',
    description: 'Flights from one place to another on a day, one way or there and back.',
    examples: [
      {
        origin: 'TLV',
        destination: 'BER',
        date: '2026-02-08',
        passengers: 1,
        class: 'economy',
        preferences: { max_stops: 1, airline_preference: ['LH', 'EL AL'], time_preference: 'morning' },
      },
    ],
  },
)
export type FlightSearch = Static<typeof FlightSearch>

const FlightLeg = Type.Object({
  flight: FlightNumber,
  origin: Airport('IATA code'),
  destination: Airport('IATA code'),
  departure: DateTime('Departure'),
  arrival: DateTime('Arrival'),
})

export const FlightResults = Results(
  {
    flight: FlightNumber,
    airline: Type.Optional(Text(64)),
    origin: Type.Optional(Airport('IATA code')),
    destination: Type.Optional(Airport('IATA code')),
    departure: DateTime('Departure'),
    arrival: DateTime('Arrival'),
    duration_minutes: Type.Optional(Count(1, 10_000)),
    stops: Count(0, 5),
    legs: Type.Optional(List(FlightLeg, 6, { description: 'Each flight of a journey with stops' })),
    return_legs: Type.Optional(List(FlightLeg, 6, { description: 'The way back, when it is in the price' })),
    price: Amount('For all passengers together, there and back when return_legs is given'),
    currency: Currency,
    class: Type.Optional(CabinClass),
    seats_available: Type.Optional(Count(0, 1000)),
    checked_bags_included: Type.Optional(Count(0, 9, 'For each passenger')),
    refundable: Type.Optional(Type.Boolean()),
    ...Booking,
  },
  {
    $id: 'agentmesh/travel/flight-results/v1',
    title: 'Flight results',
    description: 'The flights found, best match first, none when there are none.',
    examples: [
      [
        {
          flight: 'LH1234',
          departure: '2026-02-08T06:30:00Z',
          arrival: '2026-02-08T10:15:00Z',
          price: 320,
          currency: 'USD',
          stops: 0,
          booking_available: true,
          booking_action: 'reply with intent: book, reference: LH1234-20260208',
        },
      ],
    ],
  },
)
export type FlightResults = Static<typeof FlightResults>

const Board = Type.Enum(['room_only', 'breakfast', 'half_board', 'full_board', 'all_inclusive'])
const PropertyType = Type.Enum(['hotel', 'apartment', 'hostel', 'guest_house', 'resort', 'villa', 'other'])
const Amenities = UniqueList(Text(64), 64, {
  description: 'Such as wifi, parking, pool, gym, air_conditioning',
})

export const HotelSearch = Type.Object(
  {
    destination: Text(256, 'City, area, address or name of a hotel'),
    near: Type.Optional(
      Type.Object(
        { ...Coordinates, radius_km: Type.Optional(Type.Number({ minimum: 0.1, maximum: 200, default: 5 })) },
        { description: 'Where exactly, when it is known' },
      ),
    ),
    check_in: CalendarDate('Local date of arrival'),
    check_out: CalendarDate('Local date of departure'),
    adults: Type.Optional(Type.Integer({ minimum: 1, maximum: 32, default: 1 })),
    children_ages: Type.Optional(List(Count(0, 17), 16, { description: 'One entry a child' })),
    rooms: Type.Optional(Type.Integer({ minimum: 1, maximum: 16, default: 1 })),
    max_price: Type.Optional(Amount('For the whole stay and all rooms, taxes included')),
    max_price_per_night: Type.Optional(Amount('For all rooms, taxes included')),
    currency: Type.Optional(Currency),
    preferences: Type.Optional(
      Type.Object(
        {
          min_stars: Type.Optional(Count(1, 5)),
          min_rating: Type.Optional(Type.Number({ minimum: 0, maximum: 10, description: 'Out of 10' })),
          property_types: Type.Optional(UniqueList(PropertyType, 7)),
          amenities: Type.Optional(Amenities),
          board: Type.Optional(Board),
          beds: Type.Optional(Type.Enum(['single', 'double', 'twin', 'king', 'any'])),
          refundable: Type.Optional(Type.Boolean()),
          accessible: Type.Optional(Type.Boolean({ description: 'Step-free, with an accessible room' })),
          pets: Type.Optional(Type.Boolean()),
          smoking: Type.Optional(Type.Boolean()),
          pay_at_hotel: Type.Optional(Type.Boolean()),
        },
        { description: 'Wishes: results that meet them come first, others may still be returned' },
      ),
    ),
    sort: Type.Optional(Type.Enum(['best', 'price', 'rating', 'distance'], { default: 'best' })),
    max_results: Type.Optional(MaxResults),
  },
  {
    $id: 'agentmesh/travel/hotel-search/v1',
    title: 'Hotel search',
    description: 'Somewhere to stay from one day to another.',
    examples: [
      {
        destination: 'Berlin Mitte',
        check_in: '2026-02-08',
        check_out: '2026-02-11',
        adults: 2,
        children_ages: [4],
        rooms: 1,
        max_price_per_night: 180,
        currency: 'EUR',
        preferences: { min_stars: 3, amenities: ['wifi'], board: 'breakfast', refundable: true },
      },
    ],
  },
)
export type HotelSearch = Static<typeof HotelSearch>

export const HotelResults = Results(
  {
    name: Name,
    hotel_id: Type.Optional(Text(128)),
    property_type: Type.Optional(PropertyType),
    address: Type.Optional(Address),
    location: Type.Optional(Type.Object(Coordinates)),
    distance_km: Type.Optional(
      Type.Number({ minimum: 0, maximum: 20_000, description: 'From what was asked for' }),
    ),
    stars: Type.Optional(Type.Number({ minimum: 0, maximum: 5 })),
    rating: Type.Optional(Rating),
    check_in: Type.Optional(CalendarDate('Local date of arrival')),
    check_out: Type.Optional(CalendarDate('Local date of departure')),
    check_in_from: Type.Optional(ClockTime('Local time')),
    check_out_until: Type.Optional(ClockTime('Local time')),
    room: Type.Optional(
      Type.Object({
        name: Name,
        beds: Type.Optional(Text(128, 'Such as 1 king, 1 sofa bed')),
        max_guests: Type.Optional(Count(1, 64)),
        size_m2: Type.Optional(Type.Number({ minimum: 1, maximum: 10_000 })),
      }),
    ),
    board: Type.Optional(Board),
    price: Amount('For the whole stay and all rooms'),
    price_per_night: Type.Optional(Amount('For all rooms')),
    currency: Currency,
    taxes_included: Type.Optional(Type.Boolean({ default: true })),
    due_at_hotel: Type.Optional(Amount('Fees and taxes to be paid there, not in the price')),
    refundable: Type.Optional(Type.Boolean()),
    free_cancellation_until: Type.Optional(DateTime('Cancelling costs nothing until then')),
    cancellation_policy: Type.Optional(Text(1024)),
    rooms_available: Type.Optional(Count(0, 10_000)),
    amenities: Type.Optional(Amenities),
    description: Type.Optional(Text(2048)),
    image_urls: Type.Optional(List(WebAddress, 16)),
    ...Booking,
  },
  {
    $id: 'agentmesh/travel/hotel-results/v1',
    title: 'Hotel results',
    description: 'Rooms that can be had, best match first, none when there are none.',
    examples: [
      [
        {
          name: 'Hotel am Park',
          hotel_id: 'ber-0042',
          address: { lines: ['Parkstraße 7'], city: 'Berlin', postal_code: '10115', country: 'DE' },
          stars: 4,
          rating: { score: 8.7, scale: 10, count: 1932 },
          room: { name: 'Family room', beds: '1 double, 1 single', max_guests: 3 },
          board: 'breakfast',
          price: 486.3,
          price_per_night: 162.1,
          currency: 'EUR',
          taxes_included: true,
          free_cancellation_until: '2026-02-06T18:00:00+01:00',
          rooms_available: 2,
          amenities: ['wifi', 'parking'],
          booking_available: true,
          booking_reference: 'ber-0042-fam-flex',
        },
      ],
    ],
  },
)
export type HotelResults = Static<typeof HotelResults>
