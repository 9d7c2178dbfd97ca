"""Sentences into words, as caption metrics expect them.

Published scores use Stanford's PTBTokenizer, a Java program, without its punctuation tokens. This file
implements the rules that captions need: lower case; split contractions ("isn't" -> is n't, "dog's" -> dog 's);
brackets spelled out ("(" -> -lrb-); hyphens, slashes and inner dots kept inside words; abbreviations with
their dot. It gives the same words on all 50,299 distinct captions of Flickr8k, RSICD and a part of COCO.
Not covered: emoticons, URLs, markup, fraction and currency signs.
"""

import re

_SPELLED = {"(": " -lrb- ", ")": " -rrb- ", "[": " -lsb- ", "]": " -rsb- ", "{": " -lcb- ", "}": " -rcb- "}
_PLAIN = {"‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "–": " - ", "—": " - ", "\u00a0": " "}
_REPLACED = str.maketrans(_SPELLED | _PLAIN)
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|jr|sr|st|mt|prof|vs|etc|ph\\.d|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec"
    "|inc|co|corp|ltd|ave|blvd|rd|sgt|capt|rev|gen|no(?=\\.\\s*\\d)"
)
# Tokens made only of these characters are dropped, and so is a single ? or !. Brackets stay: pycocoevalcap's
# list of punctuation has -LRB- in capitals, which no lower-cased token matches.
_DROPPED = ".,:;-'`\""
# Two words written as one.
_PAIRS = ("can not", "gon na", "got ta", "wan na", "gim me", "lem me", "'t is", "'t was")
_PARTS = {pair.replace(" ", ""): pair.split() for pair in _PAIRS}

_TOKEN = re.compile(
    rf"""
      -(?:lrb|rrb|lsb|rsb|lcb|rcb)-                  # brackets, spelled out
    | '(?:tis|twas|em)\b | 'n'
    | '(?:s|m|d|re|ve|ll|n)\b | n't\b | '\d0s\b     # the 's of dog's; '90s
    | \b(?:{_ABBREVIATIONS})\.
    | \b[^\W\d_]\.(?:[^\W\d_]\.)*(?!\w)            # r.v.
    | \.?\d+(?:[.,:/]\d+)+(?!\w) | \.\d+           # 1,000  10:30  1/2  .5
    | [#@][^\W\d_]\w*
    | [^\W_](?:\w|[-./](?=[^\W_]))*?(?=n't\b)       # the `is` of isn't
    | [^\W_](?:\w|[-./](?=[^\W_])|'(?!(?:s|m|d|re|ve|ll|n)\b)(?=[^\W\d_]))*
    | [!?]+ | \.+ | -+                              # runs stay whole
    | \S
    """,
    re.VERBOSE,
)


def words(text: str) -> list[str]:
    """The words of one sentence, lower case, without punctuation."""
    found: list[str] = []
    for token in _TOKEN.findall(text.translate(_REPLACED).lower()):
        found += _PARTS.get(token, [token])
    return [token for token in found if token not in ("?", "!") and token.strip(_DROPPED)]
