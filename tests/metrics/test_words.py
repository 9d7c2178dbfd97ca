"""The words of a sentence, against what Stanford's PTBTokenizer makes of it."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

from multimodal.datasets import open_source
from multimodal.metrics.words import words

PTB_TOKENIZER = "edu.stanford.nlp.process.PTBTokenizer"
# Each right side is what PTBTokenizer and the punctuation list of pycocoevalcap leave.
SENTENCES = {
    "A black dog jumps over a log .": "a black dog jumps over a log",
    "Two dogs, one ball: who wins?": "two dogs one ball who wins",
    "Look out!! What?! No !": "look out !! what ?! no",
    "A dog's ball isn't the dogs' .": "a dog 's ball is n't the dogs",
    "I'm sure they've won, she'd say; we'll see": "i 'm sure they 've won she 'd say we 'll see",
    "You can't and cannot, gonna, wanna, gotta": "you ca n't and can not gon na wan na got ta",
    "'Tis a slip 'n' slide o'clock, ma'am": "'t is a slip 'n' slide o'clock ma'am",
    "rock'n'roll in the '90s": "rock 'n' roll in the '90s",
    "An ant's-eye-view of a t-shirt - a black-and-white one": ("an ant 's eye-view of a t-shirt a black-and-white one"),
    "a man--a tall one--sits...alone": "a man a tall one sits alone",
    "cup full of tea..": "cup full of tea",
    "Mr. Smith Jr. of St. Louis etc. and the R.V. of J. Doe": (
        "mr. smith jr. of st. louis etc. and the r.v. of j. doe"
    ),
    "the number is no. 5, or no.": "the number is no. 5 or no",
    "on grass.The dog of statefarm.com": "on grass.the dog of statefarm.com",
    "glasses (with a nose) [x] {y}": "glasses -lrb- with a nose -rrb- -lsb- x -rsb- -lcb- y -rcb-",
    "1,000 or 3.5 or .5 or 1/2 at 10:30 costs $5, 50% off #1": (
        "1,000 or 3.5 or .5 or 1/2 at 10:30 costs $ 5 50 % off # 1"
    ),
    "green/yellow and/or 4-wheeler 3rd 1980s": "green/yellow and/or 4-wheeler 3rd 1980s",
    "criss_crossing t_junction & a = b + c": "criss_crossing t_junction & a = b + c",
    "a \"quoted\" word, a 'single' one": "a quoted word a single one",
    "“curly” ‘single’ – en — em … dots of a dog’s": "curly single en em dots of a dog 's",
    "naïve café 's 中文\u00a0word": "naïve café 's 中文 word",
    "": "",
    " . , ": "",
}


def ptb(sentences: list[str]) -> list[str]:
    """The reference itself: Java, from the jar that pycocoevalcap carries."""
    java, package = shutil.which("java"), importlib.util.find_spec("pycocoevalcap.tokenizer.ptbtokenizer")
    assert package is not None
    assert package.origin is not None
    jar = Path(package.origin).parent / STANFORD_CORENLP_3_4_1_JAR
    if java is None or not jar.is_file():
        pytest.skip("needs java and the Stanford tokenizer of pycocoevalcap")
    done = subprocess.run(
        [java, "-Dfile.encoding=UTF-8", "-cp", str(jar), PTB_TOKENIZER, "-preserveLines", "-lowerCase"],
        input="\n".join(sentences).encode(),
        capture_output=True,
        check=True,
    )
    lines = done.stdout.decode().splitlines()
    kept = [" ".join(word for word in line.split(" ") if word not in PUNCTUATIONS) for line in lines]
    return kept + [""] * (len(sentences) - len(kept))


@pytest.mark.parametrize("sentence", SENTENCES)
def test_words(sentence: str) -> None:
    assert " ".join(words(sentence)) == SENTENCES[sentence]


def test_java_agrees_on_the_table() -> None:
    assert dict(zip(SENTENCES, ptb(list(SENTENCES)), strict=True)) == SENTENCES


@pytest.mark.shared
def test_java_agrees_on_real_captions() -> None:
    root = Path(__file__).parents[3] / "shared" / "data"
    if not root.is_dir():
        pytest.skip("needs ../shared/data")
    sources = [open_source(root / name) for name in ("flickr8k/val", "rsicd/val")]
    captions = sorted({text for source in sources for entry in source.entries for text in entry.captions})
    assert len(captions) > 5000
    assert [" ".join(words(caption)) for caption in captions] == ptb(captions)
