"""A few hundred varied sentences from templates: half calibrate the int8 encoder, half measure it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

_PEOPLE = (
    "Anna",
    "my brother",
    "the neighbour",
    "Dr. Okafor",
    "Grandma",
    "the plumber",
    "Luis",
    "our landlord",
)
_THINGS = (
    "the blue bicycle",
    "a parcel",
    "the kitchen tap",
    "her new job",
    "the boiler",
    "a birthday cake",
    "the spare key",
    "two concert tickets",
    "the vegetable garden",
    "an old photo album",
)
_PLACES = ("in the living room", "at the lake", "in Lisbon", "on the balcony", "behind the garage", "at work")
_TIMES = ("yesterday", "on 14 March 2023", "at 7:45 pm", "last summer", "every other Tuesday", "next week")
_SENSORS = ("bedroom temperature", "hallway motion", "fridge door", "soil moisture", "washing machine power")
_VALUES = ("21.5 °C", "open", "off", "38 %", "0.3 kW", "battery low", "-4.0", "unavailable")

_TEMPLATES = (
    "{person} talked about {thing} {place} {time}.",
    "Where did {person} leave {thing}?",
    "I can't believe {person} sold {thing}! That makes me so sad :(",
    "{sensor}: {value}",
    "Remind me {time} to ask {person} about {thing}.",
    "Hey! How are you? {person} and I went hiking {time}, and we saw {thing} {place}. It was great!",
    "The {sensor} sensor has reported {value} {place} since {time}; {person} will have a look at it.",
    "When is {person}'s appointment?",
    "{thing}",
    "ok thanks",
    "User: what is the {sensor}? Assistant: it is {value} {place}.",
    "{person} is allergic to peanuts, lives {place} with two cats, and has worked as a nurse since 2009. "
    "{time} they decided to repaint {thing}, because the colour had faded, and to take the children to see "
    "the sea; nobody remembered the umbrella, so everyone came home soaked, laughing and rather hungry.",
)


def sentences(count: int = 400) -> Iterator[str]:
    """The same `count` different sentences each time (`Random.random` never changes its sequence)."""
    rng = Random(1)

    def one_of(choices: Sequence[str]) -> str:
        return choices[int(rng.random() * len(choices))]

    seen: set[str] = set()
    while len(seen) < count:
        sentence = _TEMPLATES[len(seen) % len(_TEMPLATES)] if rng.random() < 0.9 else one_of(_TEMPLATES)
        sentence = sentence.format(
            person=one_of(_PEOPLE),
            thing=one_of(_THINGS),
            place=one_of(_PLACES),
            time=one_of(_TIMES),
            sensor=one_of(_SENSORS),
            value=one_of(_VALUES),
        )
        if sentence not in seen:
            seen.add(sentence)
            yield sentence
