"""English phrases for the generated corpus: a little of everything, so that the base model has met the language."""

from scripts.model.grammar import capitalize_sentences, words


def polish(text: str) -> str:
    """Return `text` with a capital at the head of each sentence."""
    return capitalize_sentences(text)


RULES: dict[str, list[str]] = {
    "name": words(
        "Anna Ben Clara David Ella Frank Grace Henry Ivy Jack Kate Liam Mary Noah Olive Peter Ruth Sam Tess Will"
    ),
    "town": words("Ashford Brackley Cromer Dunster Ely Frome Glossop Hexham Keswick Ludlow Malton Oundle Ripon Settle"),
    "place": [
        "by the river",
        "near the old mill",
        "behind the station",
        "on the hill",
        "at the corner shop",
        "under the oak tree",
        "in the library",
        "across the bridge",
        "outside the bakery",
        "along the canal",
    ],
    "when": [
        "this morning",
        "last night",
        "on [day]",
        "before lunch",
        "after the rain",
        "at [6..11] o'clock",
        "[2..9] days ago",
        "in the spring",
        "late in [month]",
        "every now and then",
    ],
    "day": words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": words("January February March April May June July August September October November December"),
    "thing": [
        "a lamp",
        "a red bicycle",
        "an old map",
        "a basket of pears",
        "a wooden boat",
        "two tickets",
        "a letter",
        "a blue scarf",
        "a bag of flour",
        "a small radio",
    ],
    "did": ["found", "mended", "sold", "painted", "lost", "carried", "bought", "borrowed", "hid", "returned"],
    "animal": ["a heron", "a fox", "an owl", "the cat", "a hedgehog", "the neighbour's dog", "a robin", "a pony"],
    "animal_act": ["waited", "slept", "sang", "looked for food", "crossed the road", "hid from the wind"],
    "weather": ["rain", "thick fog", "bright sun", "a cold wind", "light snow", "a warm breeze"],
    "team": ["the Rovers", "the Wanderers", "the Larks", "the Harriers", "the Millers", "the Anchors"],
    "job": ["baker", "teacher", "nurse", "carpenter", "driver", "gardener", "farmer", "librarian"],
    "emoji": ["🙂", "⚽", "🌧️", "🍐", "🚲", "🌿"],
}

EVERYDAY = [
    "[name] [did] [thing] [place] [when].",
    "[when], [animal] [animal_act] [place].",
    "there will be [weather] in [town], with [2..29] degrees at noon.",
    "the [job] opens the door at [6..9] and closes it at [16..20].",
    "[team] beat [team] [2..5]-[0..1] in front of [2..40] thousand people.",
    "a goal! [name] shoots from [12..30] yards and scores. [emoji]",
    "“have you seen [thing]?” asked [name]. “yes, [place].”",
    "[name] has lived in [town] for [2..40] years and works as a [job].",
    "the train to [town] leaves from platform [1..9].",
    "add [2..4] eggs and [100..400] grams of flour, then bake for [20..50] minutes.",
    "it takes [10..50] minutes to walk from the church to the mill.",
    "[name] and [name] [did] [thing], and nobody knew why.",
    "after [weather], the path [place] was closed.",
    "plant the seeds in [month] and keep the soil moist.",
]

TOPICS = {"everyday": EVERYDAY}

SYSTEMS = ["You are a helpful assistant.", "Answer in one short sentence.", "You are a friendly guide to small towns."]

EXCHANGES = [
    ("what happened [when]?", "[name] [did] [thing] [place]."),
    ("what is the weather in [t:town]?", "in [t] there is [weather], about [2..29] degrees."),
    ("who won?", "[team] won [2..5]-[0..1]."),
    ("where is [name]?", "[name] is [place], with [animal]."),
    ("write a sentence about [a:animal].", "[when], [a] [animal_act] [place]."),
    ("hello!", "hello! How can I help you? [emoji]"),
    ("thank you.", "you are welcome. See you on [day]!"),
    ("what does [n:name] do?", "[n] is a [job] in [town]."),
]
