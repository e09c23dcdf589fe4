"""The table of style features: the patterns that are counted, and the unit that each count is divided by.

Patterns are RE2, run by Arrow over a whole column at once. `per` says what a count is divided by: "chars" (per 100
characters), "words" (per 100 words), "lines" (share of lines that match) or "text" (1 if found, else 0).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StyleFeature:
    """One counted pattern, and what makes counting it faster without changing what is found.

    Attributes:
        name: name of the feature.
        pattern: pattern that is counted.
        per: unit that the count is divided by.
        literal: the pattern is plain text.
        needs: characters of which every text with a match has at least one; "" for any text.
        words: the alternatives of a pattern of words: words, and phrases with one character between two words.
    """

    name: str
    pattern: str
    per: Literal["chars", "words", "lines", "text"]
    literal: bool = False
    needs: str = ""
    words: tuple[str, ...] = ()

    @property
    def bytes(self) -> range | None:
        """The bytes that are its matches, where every match is one byte or the first of a character."""
        if self.literal and len(self.pattern.encode()) == 1:
            return range(ord(self.pattern), ord(self.pattern) + 1)
        return _BYTES_OF_PATTERNS.get(self.pattern)


_BYTES_OF_PATTERNS = {
    "[A-Z]": range(ord("A"), ord("Z") + 1),
    "[0-9]": range(ord("0"), ord("9") + 1),
    r"[^\x00-\x7f]": range(0xC0, 0x100),
}


def _literals(per: Literal["chars", "words"], names: dict[str, str]) -> list[StyleFeature]:
    return [StyleFeature(name, pattern, per, literal=True) for name, pattern in names.items()]


def _patterns(per: Literal["chars", "words", "lines", "text"], names: dict[str, str]) -> list[StyleFeature]:
    return [StyleFeature(name, pattern, per) for name, pattern in names.items()]


def _needing(per: Literal["chars", "words"], names: dict[str, tuple[str, str]]) -> list[StyleFeature]:
    return [StyleFeature(name, pattern, per, needs=needs) for name, (pattern, needs) in names.items()]


def _words(name: str, words: str) -> StyleFeature:
    alternatives = words.split("|")
    either = "|".join(map(re.escape, alternatives)).replace("\\ ", " ")
    return StyleFeature(name, rf"(?i)\b(?:{either})\b", "words", words=tuple(alternatives))


PUNCTUATION = _literals(
    "chars",
    {
        "comma": ",",
        "full_stop": ".",
        "exclamation_mark": "!",
        "question_mark": "?",
        "colon": ":",
        "semicolon": ";",
        "hyphen": "-",
        "double_quote": '"',
        "apostrophe": "'",
        "open_parenthesis": "(",
        "open_bracket": "[",
        "open_brace": "{",
        "slash": "/",
        "backslash": "\\",
        "pipe": "|",
        "equals": "=",
        "dollar": "$",
        "less_than": "<",
        "line_break": "\n",
    },
) + _needing(
    "chars",
    {
        "ellipsis": ("\\.\\.\\.|\u2026", ".\u2026"),
        "emoji": ("[\u2600-\u27bf\U0001f300-\U0001faff]", "\u2600\U0001f300"),
        "non_ascii": (r"[^\x00-\x7f]", ""),
        "upper_case": ("[A-Z]", ""),
        "digit": ("[0-9]", ""),
        "shouted_word": (r"\b[A-Z]{3,}\b", ""),
    },
)

MARKUP = _patterns(
    "lines",
    {
        "heading": r"^#{1,6} ",
        "dash_bullet": r"^\s*- ",
        "star_bullet": r"^\s*\* ",
        "dot_bullet": "^\\s*\u2022",
        "numbered_dot": r"^\s*\d+\. ",
        "numbered_bracket": r"^\s*\(?\d+\) ",
        "lettered": r"^\s*\(?[a-zA-Z][.)] ",
        "bold_line_start": r"^\s*(?:[-*] |\d+\. )?\*\*",
        "label_line": r"^\s*(?:[-*] |\d+\. )?\*{0,2}[A-Z][\w ]{1,40}:",
        "indented_line": r"^(?: {2,}|\t)\S",
        "blank_line": r"^\s*$",
        "table_row": r"^\|",
        "code_fence": r"^\s*```",
    },
) + _needing(
    "words",
    {
        "bold": (r"\*\*[^*\n]+\*\*", "*"),
        "italic": (r"[\s(\"]\*[^*\s][^*\n]*\*[\s).,;:!?\"]", "*"),
        "inline_code": ("`[^`\n]+`", "`"),
        "link": (r"https?://|\]\(", "/]"),
        "latex": (r"\\\(|\\\[|\\frac|\$\$|\\boxed", "\\$"),
    },
)

OPENERS = _patterns(
    "text",
    {
        "opens_with_lower_case": r"^\s*[a-z]",
        "opens_with_consent": r"(?i)^\s*(?:sure|certainly|of course|absolutely|definitely|great|okay|yes)\b",
        "opens_with_apology": r"(?i)^\s*(?:i'm sorry|i am sorry|sorry|i apologi[sz]e|unfortunately)\b",
        "opens_as_ai": r"(?i)^\s*as an? (?:ai|artificial|language|large|assistant)",
        "opens_with_here": r"(?i)^\s*here(?:'s| is| are)\b",
        "opens_with_article": r"(?i)^\s*(?:the|a|an)\b",
        "opens_with_first_person": r"(?i)^\s*(?:i|i'm|i'd|i'll|my|we|let me|let's)\b",
        "opens_with_heading": r"^\s*(?:#|\*\*)",
        "opens_with_list": r"^\s*(?:[-*] |1[.)])",
        "opens_with_quote": r'^\s*["\x{201c}]',
        "opens_with_code": r"^\s*`",
        "first_line_ends_with_colon": r"^\s*[^\n]*:[ \t]*(?:\n|$)",
        "first_line_exclaims": r"^\s*[^\n]*![ \t]*(?:\n|$)",
    },
)

CLOSERS = _patterns(
    "text",
    {
        "ends_with_full_stop": r"\.\s*$",
        "ends_with_exclamation_mark": r"!\s*$",
        "ends_with_question_mark": r"\?\s*$",
        "ends_with_colon": r":\s*$",
        "ends_with_quote": r'["\x{201d}]\s*$',
        "ends_with_code": r"`\s*$",
        "ends_in_mid_sentence": r"[\w,]\s*$",
        "ends_with_emoji": "[\u2600-\u27bf\U0001f300-\U0001faff]\\s*$",
    },
)

OFFER_WORDS = (
    r"(?i)(?:let me know|feel free|hope th(?:is|ese|at)|happy to help|any (?:other |more |further )?questions|"
    r"would you like|good luck|enjoy)"
)
"""An offer or a wish."""

OFFER_REACH = 160
"""How many characters of the last line may follow an offer."""

OFFER = StyleFeature("ends_with_offer", rf"{OFFER_WORDS}[^\n]{{0,{OFFER_REACH}}}\s*$", "text")

_CONCLUDING = "overall|in conclusion|in summary|to sum up|to summarise|to summarize|ultimately|in short|conclusion"
CONCLUSION = StyleFeature(
    "concludes", rf"(?i)(?:^|\n)\W*(?:{_CONCLUDING})\b", "text", words=tuple(_CONCLUDING.split("|"))
)

CONTRACTION = StyleFeature("contraction", r"(?i)\b\w+(?:n['\x{2019}]t|['\x{2019}](?:s|re|ve|ll|d|m))\b", "words")

WORDING = [
    _words("first_person", "i|me|my|mine|i'm|i've|i'd|i'll"),
    _words("we", "we|us|our|we'll|let's"),
    _words("second_person", "you|your|yours|you're|you'll"),
    CONTRACTION,
    _words("modal", "can|could|may|might|must|shall|should|will|would"),
    _words("hedge", "perhaps|maybe|possibly|probably|likely|generally|typically|usually|often|sometimes|seem|seems"),
    _words("booster", "very|really|extremely|highly|truly|incredibly|essential|crucial|important|significant"),
    _words("addition", "also|additionally|furthermore|moreover|besides|another"),
    _words("contrast", "however|although|though|while|whereas|but|yet|nevertheless"),
    _words("cause", "because|since|therefore|thus|hence|so|consequently"),
    _words("order", "first|firstly|second|secondly|third|next|then|finally|lastly|step"),
    _words("example", "for example|for instance|such as|e.g|including|like"),
    _words("negation", "no|not|never|none|cannot|without"),
    _words("apology", "sorry|apologise|apologize|unfortunately"),
    _words("as_an_ai", "as an ai|language model|ai assistant"),
    _words("ensure", "ensure|ensuring|provide|provides|providing|various|specific|overall|remember|note"),
    _words("article", "the|a|an"),
    _words("and", "and"),
    _words("of", "of"),
    _words("to", "to"),
    _words("in", "in"),
    _words("is", "is|are|was|were|be|been"),
    _words("it", "it|its|it's"),
    _words("this", "this|that|these|those|which"),
    _words("with", "with|for|from|by|on|at"),
    _words("or", "or"),
]

FEATURES: tuple[StyleFeature, ...] = (*PUNCTUATION, *MARKUP, *OPENERS, *CLOSERS, OFFER, CONCLUSION, *WORDING)

_BY_WORDS = {feature.name for feature in WORDING} | {
    *("opens_with_consent", "opens_with_apology", "opens_as_ai", "opens_with_here", "opens_with_article"),
    *("opens_with_first_person", "ends_with_offer", "concludes"),
}
ENGLISH = [row for row, feature in enumerate(FEATURES) if feature.name in _BY_WORDS]
"""Rows of `FEATURES` that are English words."""

_FUNCTION_WORDS = {"article", "and", "of", "to", "in", "is", "it", "this", "with", "or"}
ENGLISH_FUNCTION_WORDS = [row for row, feature in enumerate(FEATURES) if feature.name in _FUNCTION_WORDS]
"""Rows of `FEATURES` that are function words of English."""

OTHER_FUNCTION_WORDS = _words(
    "other_function_words",
    "le|la|les|des|du|une|et|est|que|qui|dans|pour|pas|sur|avec|sont|der|die|das|und|ist|nicht|mit|ein|eine|den|von|zu|"
    "auf|el|los|las|una|en|es|por|con|para|como|del|il|che|di|non|per|sono|della|um|uma|os|em|het|een|van|dat|och|att|"
    "som|det|jest|nie|bir|ve|yang|dan|dengan|untuk",
)
"""Function words of languages in the Latin script other than English; not a feature."""

SIZES: tuple[str, ...] = (
    "log_characters",
    "log_words",
    "log_lines",
    "log_sentences",
    "log_longest_line",
    "log_characters_per_word",
    "words_per_sentence",
    "words_per_line",
    "distinct_token_share",
    "distinct_pair_share",
)
"""Sizes and their ratios; logarithms are log(1 + n)."""

RELATIONS: tuple[str, ...] = (
    "log_length_ratio_to_prompt",
    "response_tokens_from_prompt",
    "prompt_tokens_in_response",
    "starts_with_prompt_words",
)
"""How the response relates to its prompt: shares in [0, 1], and log((1 + characters) / (1 + prompt characters))."""

WIDE = "full_width_mark"
"""Rate of full-width marks, as they are typed in Chinese and Japanese."""

N_GROUPS = 48
GROUPS: tuple[str, ...] = tuple(f"word_group_{group}" for group in range(N_GROUPS))
"""Rates of groups of words, by the hash of the word, in texts that are not English."""
