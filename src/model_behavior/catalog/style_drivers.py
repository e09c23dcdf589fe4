"""Style drivers: the differences between two models' style profiles, in words.

**Differences.** Features are compared by their standardised difference (Cohen 1988) with its large-sample standard
error:

    d = (m_1 - m_2) / s,   s^2 = (s_1^2 + s_2^2) / 2,   se(d)^2 = (s_1^2 / n_1 + s_2^2 / n_2) / s^2

with Student's t of n_1 + n_2 - 2 degrees of freedom for the threshold. The deviation of a yes/no feature is not taken
below that of the share (n m + 1) / (n + 2), so that "2 of 2" is no certainty (Agresti and Coull 1998). Responses to the
same prompts are treated as independent, which makes the standard error too large rather than too small.

**Words.** Every feature of `models/behavior/text/style_features.py` has a label: what a person calls it, in which unit,
and what it measures along with others. Counts enter a profile as log(1 + rate), so the value shown is exp(mean) - 1:
what is typical of a response, as a geometric mean is, and below the average of the rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from model_behavior.arrays import Float64Array
from model_behavior.catalog.samples import ModelSamples, style_sums_of
from model_behavior.errors import DataError
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.text.style_features import FEATURES

_FAMILY_WISE_ERROR = 0.05
_LEAST_DEVIATION = 0.02  # below this are features that hardly ever occur
_NONE_OF_IT = {"rate": 0.005, "lines": 0.05}  # a shown value below this reads as 0
_MANY = 20.0
Kind = Literal["rate", "lines", "responses", "size", "ratio", "share"]


@dataclass(frozen=True, eq=False)
class StyleProfile:
    """Style features of the responses of one model, or of several taken together.

    Attributes:
        mean: mean over responses, [n_features], as in `StyleEncoder.feature_names`.
        deviation: standard deviation over responses, [n_features].
        count: number of responses; 2 at least can be compared.
    """

    mean: Float64Array
    deviation: Float64Array
    count: int


@dataclass(frozen=True)
class StyleDriver:
    """One difference of style.

    Attributes:
        feature: name of the feature, as in `StyleEncoder.feature_names`.
        effect: standardised difference d; positive where the first model has more.
        standard_error: standard error of the effect.
        value: typical value of the first model, in `unit`.
        reference: typical value of the other.
        unit: unit of both values, such as "per 100 words" or "% of responses".
        text: the difference as a sentence about the first model.
    """

    feature: str
    effect: float
    standard_error: float
    value: float
    reference: float
    unit: str
    text: str


@dataclass(frozen=True)
class StyleLabel:
    """The words for a feature.

    Attributes:
        name: name of the feature, as in `StyleEncoder.feature_names`.
        label: a noun in the plural ("exclamation marks"), or what a response does ("opens with an apology").
        unit: unit of the shown value.
        kind: form in which values are shown and put into words.
        topic: name shared by features that measure much the same; only the one that differs most is shown.
    """

    name: str
    label: str
    unit: str
    kind: Kind
    topic: str

    def shown(self, mean: float) -> float:
        """The mean of the feature back on the scale of the unit; shares as percentages."""
        if self.kind == "ratio":
            return math.exp(mean)
        mean = max(0.0, mean)  # a mean over the other models is a difference of sums, which rounding takes below 0
        if self.kind == "responses" or self.kind == "share":
            return 100 * mean
        return (100 if self.kind == "lines" else 1) * math.expm1(mean)


def profile_of(samples: ModelSamples, model: int) -> StyleProfile:
    """The style profile of one row."""
    return StyleProfile(
        samples.style_mean[model].astype(np.float64),
        samples.style_deviation[model].astype(np.float64),
        int(samples.style_count[model]),
    )


def average_profile(samples: ModelSamples, without: int | None = None) -> StyleProfile:
    """The profile of a model drawn at random from the others, each of them with the same weight.

    Args:
        samples: samples of all models.
        without: row that is left out.

    Raises:
        DataError: no other model has a profile.
    """
    sums = samples.style_sums
    if without is not None and samples.style_count[without] > 1:
        sums = sums - style_sums_of(samples, np.array([without]), sums.centre)
    if not sums.n_models:
        raise DataError("there is no other model to compare styles with. Fix: enrol one from its responses")
    offset = sums.offset / sums.n_models
    variance = np.maximum((sums.square + sums.within) / sums.n_models - np.square(offset), 0)
    return StyleProfile(sums.centre + offset, np.sqrt(variance), sums.n_responses)


def find_drivers(profile: StyleProfile, reference: StyleProfile, n: int = 5) -> tuple[StyleDriver, ...]:
    """The strongest differences, at most `n`, one per topic, the strongest first.

    A difference that could be chance is left out: all features together have a chance of 5 % to show one where there is
    none (Bonferroni).

    Raises:
        DataError: a profile is of fewer than two responses.
    """
    for each in (profile, reference):
        if each.count < 2:
            raise DataError(f"a style profile of {each.count} responses cannot be compared: 2 at least are needed")
    names = StyleEncoder.feature_names
    variances = [_least(each) ** 2 for each in (profile, reference)]
    scale = np.sqrt(sum(variances) / 2)
    effect = (profile.mean - reference.mean) / scale
    error = np.sqrt(variances[0] / profile.count + variances[1] / reference.count) / scale
    threshold = stdtrit(profile.count + reference.count - 2, 1 - _FAMILY_WISE_ERROR / 2 / len(names))
    drivers: dict[str, StyleDriver] = {}
    for index in np.argsort(-np.abs(effect), kind="stable").tolist():
        label = STYLE_LABELS.get(names[index])
        if label is None:  # a group of words, which has no words for it
            continue
        if abs(effect[index]) <= threshold * error[index] or label.topic in drivers or len(drivers) == n:
            continue
        value, other = label.shown(float(profile.mean[index])), label.shown(float(reference.mean[index]))
        drivers[label.topic] = StyleDriver(
            names[index], float(effect[index]), float(error[index]), value, other, label.unit, say(label, value, other)
        )
    return tuple(drivers.values())


def say(label: StyleLabel, value: float, other: float) -> str:
    """A difference as a sentence without a subject, such as "uses 3.2x as many commas (1.6 vs 0.5 per 100 words)"."""
    more = value > other
    if label.kind == "responses":
        return f"{label.label} in {value:.0f} % vs {other:.0f} % of responses"
    if label.kind == "share":
        return f"{'more' if more else 'fewer'} {label.label} ({value:.0f} % vs {other:.0f} %)"
    if label.kind == "ratio":
        return f"{'longer' if more else 'shorter'}: {value:.1f} vs {other:.1f} {label.unit}"
    if label.kind == "size":
        subject = "" if label.label == "long" else f" {label.label}"
        digits = 0 if max(value, other) >= 20 else 1
        return f"{'longer' if more else 'shorter'}{subject}: {value:.{digits}f} vs {other:.{digits}f} {label.unit}"
    figures = f"({_figure(value)} vs {_figure(other)} {label.unit})"
    if label.kind == "lines":
        figures = f"({value:.1f} % vs {other:.1f} % of lines)"
        return f"{'more' if more else 'fewer'} lines with {label.label} {figures}"
    if value < _NONE_OF_IT[label.kind]:
        return f"uses next to no {label.label} {figures}"
    if not more:
        return f"uses fewer {label.label} {figures}"
    if other < _NONE_OF_IT[label.kind] or value / other > _MANY:
        return f"uses many more {label.label} {figures}"
    return f"uses {value / other:.1f}x as many {label.label} {figures}"


def _least(profile: StyleProfile) -> Float64Array:
    """Standard deviations, not below what the number of responses can tell."""
    share = (profile.count * np.clip(profile.mean, 0, 1) + 1) / (profile.count + 2)
    least = np.where(_IS_YES_OR_NO, np.sqrt(share * (1 - share)), _LEAST_DEVIATION)
    deviation: Float64Array = np.maximum(profile.deviation, least)
    return deviation


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


_PER_CHARACTERS = {
    "comma": "commas",
    "full_stop": "full stops",
    "exclamation_mark": "exclamation marks",
    "question_mark": "question marks",
    "colon": "colons",
    "semicolon": "semicolons",
    "hyphen": "hyphens and dashes",
    "double_quote": "double quotes",
    "apostrophe": "apostrophes",
    "open_parenthesis": "parentheses",
    "open_bracket": "square brackets",
    "open_brace": "braces",
    "slash": "slashes",
    "backslash": "backslashes",
    "pipe": "pipe characters",
    "equals": "equals signs",
    "dollar": "dollar signs",
    "less_than": "less-than signs",
    "line_break": "line breaks",
    "ellipsis": "ellipses",
    "emoji": "emoji",
    "non_ascii": "characters beyond ASCII",
    "upper_case": "capital letters",
    "digit": "digits",
    "shouted_word": "words in capitals",
}
_ON_LINES = {
    "heading": "Markdown headings",
    "dash_bullet": "bullets with '-'",
    "star_bullet": "bullets with '*'",
    "dot_bullet": "bullets with '•'",
    "numbered_dot": "list numbers such as '1.'",
    "numbered_bracket": "list numbers such as '1)'",
    "lettered": "list letters such as 'a)'",
    "bold_line_start": "bold text at the start",
    "label_line": "labels such as 'Note:' at the start",
    "indented_line": "indentation",
    "blank_line": "nothing (blank lines)",
    "table_row": "table rows",
    "code_fence": "code fences",
}
_PER_WORDS = {
    "bold": "bold passages",
    "italic": "italic passages",
    "inline_code": "inline code passages",
    "link": "links",
    "latex": "LaTeX commands",
    "first_person": "words of the first person (I, my)",
    "we": "words of the first person plural (we, let's)",
    "second_person": "words of address (you, your)",
    "contraction": "contractions (don't, it's)",
    "modal": "modal verbs (can, should)",
    "hedge": "hedges (perhaps, usually)",
    "booster": "intensifiers (very, crucial)",
    "addition": "words of addition (also, moreover)",
    "contrast": "words of contrast (however, but)",
    "cause": "words of cause (because, so)",
    "order": "words of order (first, then, finally)",
    "example": "words of example (such as, like)",
    "negation": "negations (not, never)",
    "apology": "apologies (sorry, unfortunately)",
    "as_an_ai": "mentions of being an AI",
    "ensure": "stock words (ensure, provide, various)",
    "article": "articles (the, a)",
    "and": "'and'",
    "of": "'of'",
    "to": "'to'",
    "in": "'in'",
    "is": "forms of 'to be'",
    "it": "'it' and 'its'",
    "this": "'this', 'that' and 'which'",
    "with": "prepositions (with, for, by)",
    "or": "'or'",
}
_OF_RESPONSES = {
    "opens_with_lower_case": "opens in lower case",
    "opens_with_consent": "opens with consent ('Sure', 'Certainly')",
    "opens_with_apology": "opens with an apology",
    "opens_as_ai": "opens with 'As an AI'",
    "opens_with_here": "opens with 'Here is'",
    "opens_with_article": "opens with an article ('The', 'A')",
    "opens_with_first_person": "opens in the first person ('I', 'Let me')",
    "opens_with_heading": "opens with a heading or bold text",
    "opens_with_list": "opens with a list",
    "opens_with_quote": "opens with a quotation mark",
    "opens_with_code": "opens with code",
    "first_line_ends_with_colon": "ends the first line with a colon",
    "first_line_exclaims": "ends the first line with an exclamation mark",
    "ends_with_full_stop": "ends with a full stop",
    "ends_with_exclamation_mark": "ends with an exclamation mark",
    "ends_with_question_mark": "ends with a question mark",
    "ends_with_colon": "ends with a colon",
    "ends_with_quote": "ends with a quotation mark",
    "ends_with_code": "ends with code",
    "ends_in_mid_sentence": "stops without a closing mark",
    "ends_with_emoji": "ends with an emoji",
    "ends_with_offer": "ends with an offer or a wish ('Let me know', 'Good luck')",
    "concludes": "has a concluding paragraph ('Overall', 'In summary')",
}
_OTHERS = (
    StyleLabel("log_characters", "long", "characters", "size", "length"),
    StyleLabel("log_words", "long", "words", "size", "length"),
    StyleLabel("log_lines", "long", "lines", "size", "length"),
    StyleLabel("log_sentences", "long", "sentences", "size", "length"),
    StyleLabel("log_longest_line", "longest line", "characters", "size", "longest line"),
    StyleLabel("log_characters_per_word", "words", "characters per word", "size", "length of words"),
    StyleLabel("words_per_sentence", "sentences", "words per sentence", "size", "length of sentences"),
    StyleLabel("words_per_line", "lines", "words per line", "size", "length of lines"),
    StyleLabel("distinct_token_share", "of the words are different ones", "% of words", "share", "variety"),
    StyleLabel("distinct_pair_share", "of the word pairs are different ones", "% of word pairs", "share", "variety"),
    StyleLabel("log_length_ratio_to_prompt", "long", "times as long as the prompt", "ratio", "length"),
    StyleLabel("response_tokens_from_prompt", "of its words are the prompt's", "% of words", "share", "echo"),
    StyleLabel("prompt_tokens_in_response", "of the prompt's words recur", "% of words", "share", "echo"),
    StyleLabel("full_width_mark", "full-width marks", "per 100 characters", "rate", "full width"),
    StyleLabel("starts_with_prompt_words", "of the first words are the prompt's", "% of words", "share", "echo"),
)
_TOPICS = {
    "line_break": "length of lines",
    "blank_line": "length of lines",
    "bold": "bold",
    "bold_line_start": "bold",
    "numbered_dot": "numbered lists",
    "numbered_bracket": "numbered lists",
    "dash_bullet": "bullets with -",
    "apology": "apology",
    "opens_with_apology": "apology",
    "as_an_ai": "being an AI",
    "opens_as_ai": "being an AI",
    "exclamation_mark": "exclamation",
    "first_line_exclaims": "exclamation",
    "ends_with_exclamation_mark": "exclamation",
    "ends_with_full_stop": "ending",
    "ends_in_mid_sentence": "ending",
    "apostrophe": "contraction",
    "contraction": "contraction",
    "code_fence": "code",
    "ends_with_code": "code",
    "opens_with_code": "code",
    "emoji": "emoji",
    "ends_with_emoji": "emoji",
    "non_ascii": "emoji",
    "indented_line": "white space",
    "colon": "colon",
    "label_line": "colon",
}


def _label_features() -> Mapping[str, StyleLabel]:
    kinds: dict[str, tuple[Mapping[str, str], str, Kind]] = {
        "chars": (_PER_CHARACTERS, "per 100 characters", "rate"),
        "words": (_PER_WORDS, "per 100 words", "rate"),
        "lines": (_ON_LINES, "% of lines", "lines"),
        "text": (_OF_RESPONSES, "% of responses", "responses"),
    }
    labels = {label.name: label for label in _OTHERS}
    for feature in FEATURES:
        table, unit, kind = kinds[feature.per]
        # A feature without a label of its own is told by its name rather than not at all.
        label = table.get(feature.name, feature.name.replace("_", " "))
        labels[feature.name] = StyleLabel(feature.name, label, unit, kind, _TOPICS.get(feature.name, feature.name))
    return labels


STYLE_LABELS: Mapping[str, StyleLabel] = _label_features()
"""The label of every feature of the `StyleEncoder` but the groups of words, by name."""
_IS_YES_OR_NO = np.array(
    [name in STYLE_LABELS and STYLE_LABELS[name].kind == "responses" for name in StyleEncoder.feature_names]
)
