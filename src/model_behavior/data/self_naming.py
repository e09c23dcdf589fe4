"""Masks the names by which a response names its own model or maker, so that embeddings carry behaviour, not signatures.

Only clauses in which the model speaks of itself are changed ("I'm Claude, made by Anthropic", "As an AI language
model developed by OpenAI"). What a response says about other models, companies, llamas or Claude Monet stays.

The file defines the known names, then the patterns made of them, then the search, which looks first for words that
every pattern needs, since few texts have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.arrays import BoolArray

# Known names. Those that are also common words or first names are case-sensitive; the rest is not.
_ANY_CASE_MODELS = (
    r"chat[- ]?gpt",
    r"(?:instruct)?gpt(?=-?\d)",
    r"wizard(?:lm|coder|math)",
    r"open[- ]?assistant",
    r"chatglm",
    r"stablelm",
    r"internlm",
    r"openchat",
    r"openhermes",
    r"qwen",
    r"deepseek",
    r"mixtral",
    r"vicuna",
    r"guanaco",
    r"baichuan",
    r"xwin(?:[- ]?lm)?",
    r"lamda",
    r"通义千问",
    r"文心一言",
    r"豆包",
)
_CASED_MODELS = (
    r"Claude(?![^\S\n]+(?!Instant|Opus|Sonnet|Haiku|Code)[A-ZÉ][a-zé])",
    r"L[Ll][Aa][Mm][Aa]",
    *("Bard", "Gemini", "Gemma", "PaLM", "Alpaca", "Koala", "Dolly", "Mistral", "Falcon", "MPT", "Grok", "Orca"),
    *("Zephyr", "Starling", "Hermes", "Tulu", "Tülu", "SOLAR", "RWKV", "Copilot", "Bing"),
    *("Kimi", "Hunyuan", "Doubao", "Ernie", "ERNIE", "BLOOM", "DBRX", "Nanbeige", "Tongyi Qianwen"),
    *("Jurassic", "Baize", "Airoboros", "OLMo", "MiniMax", "Phind"),
)
_SUFFIX = (
    r"(?:[- ]?[vV]?\d[\d.]*\d|[- ]?[vV]?\d)?(?:[- ](?i:turbo|mini|nano|pro|ultra|flash|instant|opus|sonnet|haiku|chat|"
    r"instruct|plus|max|large|medium|small|r\+?|bot|\d+(?:\.\d+)*b?)\b)*\+?"
)
_MODEL = rf"(?:(?i:{'|'.join(_ANY_CASE_MODELS)})|{'|'.join(_CASED_MODELS)}){_SUFFIX}(?![A-Za-z0-9])"

_ANY_CASE_MAKERS = (
    r"open ?ai",
    r"anthropic",
    r"deepmind",
    r"lmsys(?:[ .]org)?",
    r"hugging ?face",
    r"mistral[ .]ai",
    r"stability ai",
    r"eleutherai",
    r"deepseek(?:[ -]ai)?",
    r"mosaicml",
    r"databricks",
    r"moonshot ai",
    r"阿里(?:巴巴|云)?(?:集团)?(?:达摩院)?",
    r"百度",
    r"腾讯",
    r"字节跳动",
    r"深度求索",
)
_CASED_MAKERS = (
    r"Google(?: (?:DeepMind|AI|Research|Brain|Cloud))?",
    r"Meta(?: (?:AI|Platforms))?",
    r"Facebook(?: AI(?: Research)?)?",
    r"Microsoft(?: Research)?",
    r"Large Model Systems Organi[sz]ation",
    r"Alibaba(?: (?:Cloud|Group|DAMO Academy))?",
    r"(?:Alibaba )?DAMO Academy",
    r"Technology Innovation Institute",
    r"Shanghai AI Lab(?:oratory)?",
    r"Allen Institute for (?:AI|Artificial Intelligence)",
    r"Zhipu(?: ?AI)?",
    r"Tsinghua(?: University)?",
    r"Stanford(?: University)?",
    r"UC Berkeley",
    r"01\.AI",
    r"AI21(?: Labs)?",
    r"Nous Research",
    r"Amazon(?: Web Services)?",
    r"Reka(?: AI)?",
    r"Inflection(?: AI)?",
    r"Together(?: AI| Computer)",
    *("xAI", "LAION", "Cohere", "TII", "Baidu", "Tencent", "ByteDance", "NVIDIA", "Nvidia", "Apple", "IBM"),
    *("Salesforce", "Upstage", "Snowflake", "Mistral", "Baichuan", "Jina AI", "AI2", "Aleph Alpha"),
)
_MAKER = rf"(?:(?i:{'|'.join(_ANY_CASE_MAKERS)})|{'|'.join(_CASED_MAKERS)})(?![a-zA-Z])"

# fmt: off
STEMS = (
    "gpt", "wizard", "assistant", "chatglm", "stablelm", "internlm", "openchat", "hermes", "qwen",
    "deepseek", "mixtral", "vicuna", "guanaco", "baichuan", "xwin", "lamda", "通义", "文心", "豆包", "claude",
    "llama", "bard", "gemini", "gemma", "palm", "alpaca", "koala", "dolly", "mistral", "falcon", "mpt",
    "grok", "orca", "zephyr", "starling", "tulu", "tülu", "solar", "rwkv", "copilot", "bing", "kimi",
    "hunyuan", "doubao", "ernie", "bloom", "dbrx", "nanbeige", "tongyi", "jurassic", "baize", "airoboros",
    "olmo", "minimax", "phind", "openai", "anthropic", "deepmind", "lmsys", "hugging", "stability",
    "eleuther", "mosaic", "databricks", "moonshot", "阿里", "百度", "腾讯", "字节", "深度求索", "google", "facebook",
    "microsoft", "systems", "alibaba", "damo", "institute", "shanghai", "zhipu", "tsinghua", "stanford",
    "berkeley", "ai21", "nous", "amazon", "reka", "inflection", "together", "laion", "cohere", "baidu",
    "tencent", "bytedance", "nvidia", "salesforce", "upstage", "snowflake", "aleph", "open ai",
    "open assistant", "meta ", "meta.", "meta,", "01.ai", "xai", " tii", " apple", " ibm", " ai2",
    "jina ai",
)
# fmt: on
"""Lower-case pieces of every known name, much quicker to search for than the patterns."""

_RUNS = 8
_LINE = 8_000  # characters of a line that is long; a shorter one gets more runs
_MODEL_MASK = "[MODEL]"
_MAKER_MASK = "[MAKER]"

# Building blocks. Every white space stays within a line.
_S = r"[^\S\n]+"
_QUOTE = r"[\"'“”‘*_`]{0,3}"
_ADVERB = rf"(?:{_S}(?i:just|only|also|actually|simply|really|currently|originally|specifically|indeed|called|named))"
_I_AM = rf"\b(?i:I(?:{_S}am|['’]m|{_S}was|['’]ve{_S}been|{_S}have{_S}been)){_ADVERB}{{0,2}}"
_NOUN = (
    r"(?i:AI|A\.I\.|artificial intelligence|(?:large |neural )?language model|LLM|chat ?bot|machine learning model|"
    r"(?:virtual|digital) assistant|neural network)\b"
    r"(?:[ -](?i:language|assistant|model|chat ?bot|bot|system|program|based|powered|trained|tool|agent)\b)*"
)
# An article, then adjectives only: "I am an engineer who uses an AI" is not the model speaking of itself.
_ADJECTIVES = rf"(?:(?!(?i:an?|the|who|that|which|using|of|for|with|in|on|and|to|at|by)\b)[\w'’-]+,?{_S}){{0,5}}?"
_SELF_NOUN = rf"(?:{_I_AM}|\b(?i:as)){_S}(?i:an?|the|one of the|your){_S}{_ADJECTIVES}{_NOUN}"
_PARTICIPLE = (
    r"(?i:created|developed|trained|made|built|designed|fine-?tuned|engineered|programmed|maintained|produced|"
    r"released|operated|provided|powered|owned|introduced|launched|pre-?trained)"
)
_PARTICIPLES = rf"{_PARTICIPLE}(?:(?:,?{_S}and{_S}|,{_S}){_PARTICIPLE})*"
_TEAM = (
    rf"(?:(?i:the|an?|some){_S})?(?:(?:[\w-]+{_S}){{0,2}}?(?i:teams?|researchers|engineers|scientists|developers|experts|"
    rf"people|group|company|organi[sz]ation){_S}(?:of{_S}(?:[\w-]+{_S}){{0,3}}?)?(?i:at|from|of|in|called|named){_S})?"
    rf"(?:(?i:the){_S})?"
)
_CAPITALISED = r"(?!I\b)[A-Z][\w&-]*(?:\.\w+)*"
_ORGANISATION = rf"{_CAPITALISED}(?:{_S}(?:(?:of|for|the){_S})?{_CAPITALISED}){{0,6}}"
_SHORT_FORM = r"(?: \([A-Z][\w .-]{1,60}\))?"
_KNOWN_MAKER = rf"{_QUOTE}(?P<maker>{_MAKER}{_SHORT_FORM})"
_ANY_MAKER = rf"{_QUOTE}(?P<maker>(?:{_MAKER}|{_ORGANISATION}){_SHORT_FORM})"
_KNOWN_MODEL = rf"{_QUOTE}(?P<model>{_MODEL})"
_WHOLE_WORD = (
    r"(?!I\b)[A-Z][\w&-]*+(?:\.\w+)*+"  # never given back in part: its hyphens would be tried as separators, too
)
_ANY_MODEL = rf"{_QUOTE}(?P<model>{_MODEL}|{_WHOLE_WORD}(?:[ -](?:{_WHOLE_WORD}|\d[\w.]*+)){{0,3}})"
_BETWEEN = (
    rf"(?:{_S}(?:called|named|known{_S}as){_S}[^\s,]+)?(?: \([^()\n]{{1,40}}\))?,?"
    rf"(?:{_S}(?:that|which|and))?(?:{_S}(?:I{_S})?(?:was|is|am|were|has{_S}been|have{_S}been))?{_ADVERB}?"
)

_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # I am a language model trained by researchers from X; as an AI made by X.
        rf"{_SELF_NOUN}{_BETWEEN}{_S}{_PARTICIPLES}{_S}(?:by|at|from){_S}{_TEAM}{_ANY_MAKER}",
        rf"{_SELF_NOUN},?{_S}(?:by|from|of|at){_S}{_TEAM}{_KNOWN_MAKER}",
        # I was trained by OpenAI. Without an AI in the clause, only a known maker counts.
        rf"{_I_AM}{_S}{_PARTICIPLES}{_S}(?:by|at|from){_S}{_TEAM}{_KNOWN_MAKER}",
        rf"\[MODEL\]{_QUOTE}(?: \([^()\n]{{1,40}}\))?,?(?:{_S}(?i:an?|the){_S}{_ADJECTIVES}{_NOUN})?{_BETWEEN}"
        rf"{_S}{_PARTICIPLES}{_S}(?:by|at|from){_S}{_TEAM}{_ANY_MAKER}",
        rf"\[MODEL\]{_QUOTE},?{_S}(?:an?|the){_S}(?:[\w-]+{_S}){{0,6}}?(?:by|from){_S}{_TEAM}{_KNOWN_MAKER}",
        rf"\[MAKER\],?(?:{_S}and)?{_S}(?:called|named|known{_S}as){_S}{_KNOWN_MODEL}",
        rf"\[MAKER\](?:,|,?{_S}and|{_S}&){_S}{_KNOWN_MAKER}",
        # I am OpenAI's model; as a Google AI.
        rf"(?:{_I_AM}|\b(?i:as)){_S}(?:(?i:an?|the){_S})?{_KNOWN_MAKER}(?:['’]s)?{_S}{_ADJECTIVES}{_NOUN}",
        rf"\b(?i:my{_S}(?:creators?|developers?|makers?|parent company))(?:,|{_S}(?:at|is|are|from))?"
        rf"{_S}{_TEAM}{_KNOWN_MAKER}",
        rf"\b{_KNOWN_MAKER}{_QUOTE}(?:,)?{_S}(?:has{_S}|have{_S}|that{_S}|which{_S}|who{_S})?{_PARTICIPLES}{_S}me\b",
        # I am Claude; my name is Vicuna; as ChatGPT, I; I am X, a language model; an AI named X.
        rf"(?:{_I_AM}|\b(?i:my{_S}name(?:{_S}is|['’]s)|call{_S}me)){_S}(?:(?i:the){_S})?{_KNOWN_MODEL}",
        rf"(?:{_I_AM}|\b(?i:my{_S}name(?:{_S}is|['’]s)|call{_S}me)){_S}{_ANY_MODEL}{_QUOTE},?"
        rf"(?:{_S}(?:and|as))?(?:{_S}(?:I{_S}am|I['’]m))?{_S}(?:an?|the|your){_S}{_ADJECTIVES}{_NOUN}",
        rf"(?:\bAs|(?<=[,;:.] )as){_S}{_KNOWN_MODEL}{_QUOTE},{_S}(?:I|my)\b",
        rf"{_SELF_NOUN},?(?:{_S}(?:I{_S}am|and))?{_S}(?:called|named|known{_S}as){_S}{_ANY_MODEL}",
        rf"{_I_AM}{_S}(?:based|built){_S}(?:on|upon){_S}(?:the{_S})?(?:(?P<maker>{_MAKER})['’]s{_S})?{_KNOWN_MODEL}",
        rf"{_I_AM}{_S}(?:an?{_S}(?:\w+{_S})?)(?:version|instance|variant){_S}of{_S}(?:the{_S})?"
        rf"(?:(?P<maker>{_MAKER})['’]s{_S})?{_KNOWN_MODEL}",
        rf"{_SELF_NOUN}{_S}(?:based|built){_S}(?:on|upon){_S}(?:the{_S})?(?:(?P<maker>{_MAKER})['’]s{_S})?{_KNOWN_MODEL}",
        # German, French, Spanish, Portuguese, Italian: "Als KI-Modell von OpenAI", "Je suis ChatGPT".
        rf"\b(?i:als{_S}(?:ein\w*{_S})?(?:[\w-]+{_S}){{0,2}}?(?:KI|Sprachmodell|Chatbot|Assistent)\w*(?:-\w+)?|ich{_S}(?:bin|wurde))"
        rf"(?:{_S}[^\s.!?]+){{0,5}}?{_S}(?:von|durch){_S}{_KNOWN_MAKER}",
        rf"\b(?i:je{_S}suis|en{_S}tant{_S}qu|j['’]ai{_S}été)[^\s.!?]*(?:{_S}[^\s.!?]+){{0,7}}?{_S}par{_S}{_KNOWN_MAKER}",
        rf"\b(?i:soy|fui|eu{_S}sou|sono|como|come)(?:{_S}[^\s.!?]+){{0,8}}?{_S}(?:por|pela|pelo|da){_S}(?:la{_S})?{_KNOWN_MAKER}",
        rf"\b(?i:ich{_S}bin|ich{_S}hei(?:ß|ss)e|mein{_S}Name{_S}ist|je{_S}suis|je{_S}m['’]appelle|soy|me{_S}llamo|"
        rf"mi{_S}nombre{_S}es|eu{_S}sou|sono|mi{_S}chiamo){_S}{_KNOWN_MODEL}",
        # Chinese and Japanese.
        rf"(?:我是|我叫|我由|我被|作为|私は)[^。！？\n]{{0,20}}?{_KNOWN_MAKER}(?=[^。！？\n]{{0,6}}(?:开发|训练|创建|研发|打造|推出|的|開発|訓練|作成))",
        rf"(?:我是|我叫|私は)(?:一个|由[^。\n]{{0,12}}的)?{_S[:-1]}*{_KNOWN_MODEL}",
    )
)

# A text without any cue has no self-reference; most texts end here, at the cost of a few searches.
# fmt: off
_CUES = (
    "i am ", "i'm ", "i’m ", "i was ", "ve been ", "my name", "call me", "as an ai", "as a", "ed me", "made me",
    "built me", "my creator", "my developer", "my maker", "my parent", "ich bin", "ich wurde", "ich hei", "mein name",
    "als ki", "als ein", "je suis", "je m", "en tant qu", "ai été", "soy ", "fui ", "me llamo", "mi nombre", "eu sou",
    "sono ", "mi chiamo", "como ", "我", "作为", "私は", "as chatgpt", "as claude", "as the",
)
_GENERIC_NOUNS = (
    "language model", " ai", "llm", "chatbot", "chat bot", "artificial intelligence", " assistant", "neural",
)
_GENERIC_LINKS = (
    " by ", " at ", " from ", "named", "called", "known as", "i am ", "i'm ", "i’m ", "my name", "call me",
)
# fmt: on


def mask_self_naming(texts: Sequence[str]) -> tuple[list[str], int]:
    """Replaces self-naming by "[MODEL]" and "[MAKER]"; returns the texts and how many changed. Idempotent."""
    masked = list(texts)
    chosen = np.flatnonzero(_may_name_itself(texts)).tolist()
    if not chosen:
        return masked, 0
    # No pattern spans lines, so the few lines that matter are found by the cheap test first.
    lines = [texts[index].split("\n") for index in chosen]
    flat = [line for of_text in lines for line in of_text]
    for index in np.flatnonzero(_may_name_itself(flat)).tolist():
        flat[index] = _mask_line(flat[index])
    start = 0
    for index, of_text in zip(chosen, lines, strict=True):
        masked[index] = "\n".join(flat[start : start + len(of_text)])
        start += len(of_text)
    return masked, sum(new != old for new, old in zip(masked, texts, strict=True))


def _may_name_itself(texts: Sequence[str]) -> BoolArray:
    """True for each text that has the words that every pattern needs, [n_texts]; cheap, for all texts at once."""
    lowered = pa.array([text.lower().encode("utf-8", "replace") for text in texts], pa.large_binary())
    may = _has(lowered, _CUES)
    cued = np.flatnonzero(may)
    lowered = lowered.take(pa.array(cued))
    may[cued] = (_has(lowered, _GENERIC_NOUNS) & _has(lowered, _GENERIC_LINKS)) | _has(lowered, STEMS)
    return may


def _has(texts: pa.LargeBinaryArray, words: Iterable[str]) -> BoolArray:
    """True for each text that has one of the words, [n_texts]."""
    pattern = "|".join(re.escape(word) for word in sorted(set(words)))
    found: BoolArray = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return found.copy()


def _mask_line(text: str) -> str:
    # One mask can complete the context of another, so the patterns run until nothing changes: each run removes
    # text that is not a mask and adds none, so it ends, and a second call finds nothing to do. A chain of names as long
    # as the line would need as many runs as it has links, so that their number is bounded for long lines.
    for _ in range(_RUNS + _LINE // (len(text) + 1)):
        new = text
        for pattern in _PATTERNS:
            new = pattern.sub(_replace, new)
        if new == text:
            break
        text = new
    return text


def _replace(match: re.Match[str]) -> str:
    text, start = match.group(), match.start()
    spans = [(*match.span(name), name) for name, value in match.groupdict().items() if value is not None]
    for begin, end, name in sorted(spans, reverse=True):
        mask = _MODEL_MASK if name == "model" else _MAKER_MASK
        text = text[: begin - start] + mask + text[end - start :]
    return text
