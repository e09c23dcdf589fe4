"""Templates of the prompts and answers of the built-in arena.

All simulated LLMs share every list; they differ only in which entries they favour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

# topic -> five lines "point|instruction|its reason|second instruction|its reason": two facts a point.
TOPICS: Final[dict[str, str]] = {
    "baking sourdough bread": """
starter care|feed it twice a day|the yeast peaks after six hours|keep it near 25 degrees|warmth sets its pace
hydration|use 70 grams of water per 100 grams of flour|a wet dough opens the crumb|wet your hands|dough sticks
kneading|fold it four times in two hours|gluten needs rest to form|stop at smooth skin|tears mean weak dough
proofing|let it rise overnight in the fridge|cold builds acid|poke it with a finger|a slow spring means ready
oven heat|start at 250 degrees with a lid|steam keeps the crust soft|cool it for an hour|the crumb still sets
""",
    "growing tomatoes on a balcony": """
pot size|pick a pot of 20 litres|roots need depth|drill six holes in the base|standing water rots roots
sunlight|find a spot with seven hours of sun|shade costs fruit|turn the pot each week|leaves lean to the light
watering|water 2 litres each morning|dry soil splits the fruit|aim at the soil|wet leaves invite blight
pruning|pinch out side shoots below 5 cm|they steal sugar|remove the lowest leaves in July|air slows mould
feeding|feed potash every ten days|flowers need it to set|mix in crushed shells|calcium stops black ends
""",
    "training for a half marathon": """
weekly mileage|add 10 percent a week|tendons adapt slowly|rest every fourth week|rest builds gains
long runs|build to 18 km by week nine|the last 3 km come from fitness|go 60 seconds slower|pace burns sugar
shoe choice|change shoes after 700 km|the foam goes flat|buy half a size up|feet swell on long days
race pace|hold back for 5 km|early speed is paid back twice|practise pace on Wednesdays|the body learns rhythm
fuelling|eat 40 grams of sugar an hour|stores last 90 minutes|drink at every stop|thirst comes too late
""",
    "brewing filter coffee": """
grind size|grind like coarse sand|fine powder turns bitter|grind just before use|aroma fades in 15 minutes
water quality|use water with 80 mg of minerals|soft water tastes flat|filter it by carbon|chlorine masks fruit
brew ratio|weigh 60 grams per litre|spoons vary by a third|note each recipe|small changes are hard to recall
bloom time|pour 50 ml and wait 40 seconds|gas blocks the water|stir once with a spoon|dry pockets stay sour
temperature|brew at 94 degrees|cooler water leaves acids behind|rinse the filter first|cold glass steals heat
""",
    "fixing a bicycle": """
chain wear|measure it every 500 km|a long chain eats gears|replace it at 0.75 percent|later costs a cassette
brake pads|swap pads below 1 mm|metal scores the rim|sand off the shiny layer|glazed pads squeal
tyre pressure|pump to 4 bar for 35 mm tyres|low air pinches the tube|check it on Sundays|rubber leaks
gear tuning|turn the barrel a quarter turn|the cable stretches|set the limit screws first|they stop overshift
bearing play|rock the wheel from side to side|a click means wear|grease the hub each spring|rain washes it out
""",
    "preparing a job interview": """
company research|read the last two annual reports|plans show up there first|note 3 products|details show care
sample stories|write six stories of 90 seconds|most questions repeat|end each with a number|results stick
salary talk|name a range 10 percent above your goal|first numbers anchor|ask for a day|haste costs money
body language|sit 5 cm forward|leaning back reads as bored|pause two seconds|silence sounds thoughtful
follow-up mail|send thanks within 24 hours|panels decide fast|mention one detail|form letters are ignored
""",
    "testing Python code": """
test naming|name the behaviour and not the function|reports read as a list|stay under 60 letters|logs cut it
fixtures|build one object per test|shared state leaks|put them in conftest.py|pytest finds them there
mocking|fake only the network|deep mocks copy the code|patch where it is looked up|imports bind names
coverage|track branches rather than lines|an else can hide|stop near 90 percent|the rest finds little
test speed|keep the suite under 60 seconds|slow suites get skipped|mark slow cases|a quick loop keeps focus
""",
    "putting solar panels on a roof": """
roof angle|aim for 35 degrees to the south|noon sun is strong|accept 15 degrees of error|it costs 3 percent
inverter choice|size it at 90 percent of peak|full sun is rare|mount it in the shade|heat cuts its life
battery storage|plan 1 kWh per 1000 kWh of use|bigger ones stay empty|pick iron phosphate|it lasts 6000 cycles
permits|ask the grid operator eight weeks ahead|meters are scarce|file the plan with the city|fines reach 500
payback|count on nine to twelve years|prices move both ways|shift washing to noon|own power is worth more
""",
    "adopting a rescue cat": """
first days|set up one quiet room for a week|space scares a new cat|sit on the floor|height looks like a threat
litter box|scoop twice a day|smell drives cats away|place it far from food|cats keep the two apart
vet checks|test for FIV within ten days|signs show late|chip the cat at the first visit|one in five gets lost
play time|play ten minutes before meals|hunts come before food|end with a catch|endless chase brings stress
diet|mix old food in for seven days|sudden change upsets the gut|serve 60 percent wet food|cats drink little
""",
    "photographing the night sky": """
shutter time|divide 400 by the focal length|stars trail beyond it|use a 2 second delay|fingers shake the frame
lens choice|pick 20 mm at f/2|wide glass gathers sky|stop down by one third|corners get sharp
focusing|focus on a bright star at 10x zoom|infinity marks drift|tape the ring|it slips in the cold
dark places|drive 40 km from the city|its glow hides faint arms|go at new moon|moonlight drowns detail
stacking|take 30 frames and average them|noise falls with the root|shoot 10 dark frames|hot pixels repeat
""",
    "saving for a first home": """
deposit|target 20 percent of the price|lenders drop the fee|open a separate account|mixed money gets spent
budget|log every expense for 60 days|guesses miss a fifth|move savings on payday|the rest feels like the limit
credit score|keep cards below 30 percent|use above it looks risky|check it in spring|one in four is wrong
hidden costs|add 8 percent for tax and notary|sellers quote none of it|hold three months of pay|roofs leak
loan terms|compare the yearly total rate|the headline omits fees|fix it for ten years|calm is worth it
""",
    "learning chess": """
openings|learn one reply to e4 and d4|depth beats breadth|castle by move ten|open kings get mated
tactics|solve 15 puzzles a day|patterns need repeats|name the motif aloud|words help recall
endgames|study king and pawn first|all trades lead there|drill the rook bridge|it wins half of them
time use|spend a third of the clock by move 15|plans form there|sit on your hands|first ideas are often bad
game review|note your thoughts before the engine|it hides why you erred|replay losses twice|they teach more
""",
}

# (what the user writes, what an answer calls itself)
TASKS: Final[tuple[tuple[str, str], ...]] = (
    ("Explain {topic} to a complete beginner, with attention to {points}.", "explanation"),
    ("Write a short guide to {topic} that covers {points}.", "guide"),
    ("I am new to {topic}. What should I know about {points}?", "introduction"),
    ("Give me a checklist for {topic}: {points}.", "checklist"),
    ("What are common mistakes in {topic}, above all around {points}?", "list of mistakes"),
    ("Draft an email to a friend who asked me about {topic}; mention {points}.", "email"),
    ("Plan my next month of {topic} with {points} in mind.", "plan"),
    ("Summarise what experts say on {points} in {topic}.", "summary"),
    ("Why do people fail at {topic}? Think of {points}.", "analysis"),
    ("Write a two minute talk on {topic} that touches {points}.", "talk"),
    ("Answer these questions about {topic}. How do I handle {points}?", "answer"),
    ("Rank by weight for {topic}: {points}. Say why.", "ranking"),
    ("My neighbour says {points} do not matter for {topic}. Is that true?", "reply"),
    ("Create study notes on {topic}, one part each for {points}.", "set of notes"),
    ("How would a professional go about {topic}? I mean {points}.", "walkthrough"),
    ("Turn this into advice for teenagers: {topic}, {points}.", "piece of advice"),
    ("Help me decide where to spend effort in {topic}: {points}?", "comparison"),
    ("Make a quiz with answers on {topic} about {points}.", "quiz"),
    ("I have one weekend for {topic}. How do I deal with {points}?", "schedule"),
    ("Describe the science behind {points} in {topic}.", "description"),
)

# Split at the slashes. The texts here are written in the first word of each group of synonyms.
_LISTS: Final[dict[str, str]] = {
    "patterns": (
        "{Core}, because {reason}. / {Core}: {reason}. / Since {reason}, {core}. / You should {core}; "
        "{reason}. / When it comes to {point}, {core}. {Reason}. / {Reason}, so {core}. / It helps to "
        "{core}, as {reason}. / {Core}. {Reason}. / Why {core}? {Reason}. / {Core} ({reason}). / For "
        "{point}, you need to {core} — {reason}."
    ),
    "vague": (
        "{Point} is important in {topic}. / Many people overlook {point}, and it is a pity. / There "
        "are many ways to think about {point}. / Getting {point} right can help a lot in the end. / With "
        "{point}, it often depends on your situation. / Take your time with {point} and see what works for "
        "you. / {Point} is something that you will want to keep in mind. / A good approach to {point} can "
        "make the rest simple. / It is often said that {point} comes with practice. / Do not worry too much "
        "about {point} when you start. / In general, {point} rewards patience and attention. / You will "
        "often hear different advice on {point}. / Think about {point} with care before you go further. / "
        "Your experience with {point} can be quite different."
    ),
    "contradictions": (
        "Then again, {point} hardly matters at all. / On second thought, you can ignore {point}. / That "
        "said, the opposite of this on {point} is also true. / Actually, you do not need any of this for "
        "{point}."
    ),
    "openers": (
        "Great question! / Sure, here is {a} {noun} on {topic}. / Certainly! Let us look at {topic}. / In "
        "short, {topic} comes down to {points}. / Here is what to know about {points}. / Happy to help with "
        "{topic}. / {Topic} is simple once you start with the basics. / Below is {a} {noun} for {topic}. / "
        "Let us take this step by step. / Good choice to ask about {points}. / It all depends on {points}. / "
        "Of course! Here is {a} {noun} to use."
    ),
    "closers": (
        "I hope this helps! / Let me know if you need more detail on {points}. / Good luck with {topic}! / "
        "In summary, keep {points} in view. / Overall, {topic} rewards steady work. / Would you like a "
        "longer {noun}? / Start small, and the rest will follow. / That is all you need for {topic}. / Feel "
        "free to ask about any of these points. / To sum up: take {points} one at a time."
    ),
    "hedges": (
        "I think / As far as I know, / Generally, / It seems that / In most cases, / Usually, / I believe / Arguably,"
    ),
    "connectives": (
        "Also, / Next, / Moreover, / In addition, / Then / Furthermore, / Besides, / After that, / On top of "
        "that, / Similarly, / Beyond that, / And"
    ),
    "disclaimers": (
        "Please note that I am not a professional in {topic}. / As an AI, I cannot check this for your case. "
        "/ This is general information and not expert advice. / Results can be different for you."
    ),
    "refusals": (
        "I am sorry, but I cannot help with {topic} in this form. You can ask me about {points} one at a "
        "time. / I do not feel able to give {a} {noun} on {topic}. Please ask an expert about {points}."
    ),
    "intros": "Key points: / Here is the {noun}: / What to do: / The main steps are:",
    "emoji": "😊 / ✨ / 👍 / 🚀 / 💡 / ✅",
    "layouts": "prose / bullets / prose / numbered / sections",
    "bullets": "- / * / •",
    "synonyms": (
        "should|ought to|must / help|assist / important|crucial|key / start|begin / often|frequently / "
        "need to|have to / good|great / keep|hold / pick|choose|select / simple|easy|straightforward / "
        "many|a lot of|numerous / because|as|given that / people|folks / advice|guidance|tips / "
        "basics|fundamentals|essentials / look at|go through|walk through"
    ),
    "contractions": (
        "it is|it's / do not|don't / you will|you'll / that is|that's / cannot|can't / i am|i'm / here "
        "is|here's / let us|let's"
    ),
}
PHRASES: Final = {name: tuple(text.split(" / ")) for name, text in _LISTS.items()}
# How many phrases of a list an LLM favours.
FAVOURED: Final = {"openers": 4, "closers": 4, "hedges": 3, "connectives": 4, "patterns": 5, "emoji": 3}
# habit -> the rates it is drawn from: a share of sentences, answers or words
RATES: Final[dict[str, tuple[float, ...]]] = {
    "opener": (0.2, 0.5, 0.9),
    "closer": (0.1, 0.4, 0.8),
    "hedge": (0.02, 0.05, 0.2, 0.35),
    "connective": (0.02, 0.1, 0.3, 0.5),
    "join": (0.0, 0.15, 0.4),
    "bold": (0.0, 0.1, 0.6, 0.9),
    "heading": (0.0, 0.0, 0.3, 0.8),
    "exclaim": (0.01, 0.01, 0.05, 0.2),
    "emoji": (0.02, 0.02, 0.02, 0.2, 0.6),
    "contract": (0.05, 0.3, 0.9),
    "disclaim": (0.0, 0.0, 0.1, 0.4),
    "refuse": (0.0, 0.0, 0.01, 0.03),
    "slip": (0.0, 0.003, 0.008),
    "break": (0.2, 0.35, 0.5),
}


@dataclass(frozen=True)
class Prompt:
    """A prompt: its text, its topic, the points to cover, and the noun for its answer, such as "guide"."""

    text: str
    topic: str
    topic_index: int
    points: tuple[str, ...]
    noun: str


def read_facts(topic: str) -> dict[str, list[tuple[str, str]]]:
    """The (instruction, reason) facts of each point of a topic."""
    rows = [line.split("|") for line in TOPICS[topic].strip().splitlines()]
    return {point: [(first, why), (second, also)] for point, first, why, second, also in rows}


def write_prompts(n_prompts: int, points_asked: int, rng: np.random.Generator) -> list[Prompt]:
    """Draw prompts whose (topic, task, points) all differ, each topic and task about equally often."""
    cells = [(topic, task) for topic in enumerate(TOPICS) for task in TASKS]
    order, shift = rng.permutation(len(cells)), rng.integers(1000, size=len(cells))
    prompts = []
    for i in range(n_prompts):
        cell = order[i % len(cells)]
        (index, topic), (task, noun) = cells[cell]
        choices = list(combinations(read_facts(topic), points_asked))
        points = choices[(shift[cell] + i // len(cells)) % len(choices)]
        text = task.format(topic=topic, points=list_words(points))
        prompts.append(Prompt(text[0].upper() + text[1:], topic, index, points, noun))
    return prompts


def list_words(words: Sequence[str]) -> str:
    """Write "a, b and c"."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
