"""Sentences into words, as the caption scorers do it.

Published scores come from Stanford's PTBTokenizer, a Java program, with its punctuation dropped. This is the
part of its rules that captions need: lower case; contractions split ("isn't" -> is n't, "dog's" -> dog 's);
brackets spelled out ("(" -> -lrb-); hyphens, slashes and inner dots kept inside words; abbreviations keep
their dot. On all 50,299 different captions of Flickr8k, RSICD and a part of COCO it gives the same words.
Not covered: emoticons, addresses with a scheme, markup, fractions and currencies spelled by their signs.
"""

import re

_SPELLED = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "–": " - ", "—": " - ", "\u00a0": " "}
)
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|jr|sr|st|mt|prof|vs|etc|ph\\.d|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec"
    "|inc|co|corp|ltd|ave|blvd|rd|sgt|capt|rev|gen|no(?=\\.\\s*\\d)"
)
# Tokens of nothing else are dropped, and a single ? or !. Brackets stay: pycocoevalcap's list of punctuation
# has -LRB- and the like in capitals, which no lower-cased token matches.
_DROPPED = ".,:;-'`\""
# Two words written as one, and where they part.
_PARTS = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}

_TOKEN = re.compile(
    rf"""
      -(?:lrb|rrb|lsb|rsb|lcb|rcb)-                  # brackets, spelled out
    | '(?:tis|twas|em)\b | 'n'
    | '(?:s|m|d|re|ve|ll|n)\b | n't\b | '\d0s\b     # the 's of dog's; '90s
    | \b(?:{_ABBREVIATIONS})\.
    | \b[^\W\d_]\.(?:[^\W\d_]\.)*(?!\w)            # r.v.
    | \.?\d+(?:[.,:/]\d+)+(?!\w) | \.\d+           # 1,000  10:30  1/2  .5
    | [#@][^\W\d_]\w*
    | [^\W_](?:\w|[-./](?=[^\W_]))*?(?=n't\b)       # the is of isn't
    | [^\W_](?:\w|[-./](?=[^\W_])|'(?!(?:s|m|d|re|ve|ll|n)\b)(?=[^\W\d_]))*
    | [!?]+ | \.+ | -+                              # runs stay together
    | \S
    """,
    re.VERBOSE,
)


def words(text: str) -> list[str]:
    """The words of one sentence, lower case, without punctuation."""
    text = text.translate(_PLAIN).lower()
    for bracket, name in _SPELLED.items():
        text = text.replace(bracket, f" {name} ")
    found: list[str] = []
    for token in _TOKEN.findall(text):
        found += _PARTS.get(token, (token,))
    return [token for token in found if token not in ("?", "!") and token.strip(_DROPPED)]
