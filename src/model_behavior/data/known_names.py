"""Names of LLMs and of their makers, as regular expressions, for the masking of self-naming."""

from __future__ import annotations

# Names that are also common words or first names are case-sensitive; the rest is not.
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
MODEL = rf"(?:(?i:{'|'.join(_ANY_CASE_MODELS)})|{'|'.join(_CASED_MODELS)}){_SUFFIX}(?![A-Za-z0-9])"

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
MAKER = rf"(?:(?i:{'|'.join(_ANY_CASE_MAKERS)})|{'|'.join(_CASED_MAKERS)})(?![a-zA-Z])"

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
"""Lower-case pieces: a text with none of them holds no known name. Much quicker to search than the patterns."""
