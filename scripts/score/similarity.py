"""How near answers are to what is expected: perplexity, BLEU, chrF, ROUGE-L, matches."""

from scripts.common.language import language_of
from scripts.score.edit_distance import edit_distance
from scripts.score.material import Material, Measured, NotApplicableError
from scripts.score.tokenize_text import WITHOUT_SPACES, normalised_for_match, words

# sacrebleu's tokenizers: `13a` knows ASCII punctuation only; `intl` splits at all Unicode punctuation (’ « » …).
BLEU_TOKENIZERS = {"": "13a", "en": "13a", "zh": "zh", **{code: "char" for code in WITHOUT_SPACES if code != "zh"}}


def bleu_metric(language: str | None):
    """Return sacrebleu's BLEU for a language; the effective order keeps answers of under four words from being 0."""
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=BLEU_TOKENIZERS.get(language_of(language), "intl"), effective_order=True, force=True)


def chrf_metric():
    """Return sacrebleu's chrF2 with its defaults."""
    from sacrebleu.metrics import CHRF

    return CHRF()


def signatures(language: str | None) -> dict[str, str]:
    """Return sacrebleu's signatures, which say exactly what was computed."""
    signed = {}
    for name, metric in (("bleu", bleu_metric(language)), ("chrf", chrf_metric())):
        metric.corpus_score(["a"], [["a"]])
        signed[name] = metric.get_signature().format()
    return signed


def sacrebleu_statistics(metric, pairs: list) -> list:
    """Return sacrebleu's own per-record statistics of (answer, expected) pairs; None stays None."""
    rows = []
    for pair in pairs:
        rows.append(pair and [int(count) for count in metric._extract_corpus_statistics([pair[0]], [[pair[1]]])[0]])
    return rows


def bleu(material: Material) -> Measured:
    """Return the n-gram counts of BLEU per record."""
    return Measured(sacrebleu_statistics(bleu_metric(material.language), material.pairs()))


def chrf(material: Material) -> Measured:
    """Return the character n-gram counts of chrF per record."""
    return Measured(sacrebleu_statistics(chrf_metric(), material.pairs()))


class LanguageTokenizer:
    """Our words for rouge-score, whose own tokenizer drops every letter that is not ASCII."""

    def __init__(self, language: str | None):
        self.language = language

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text in lower case."""
        return [word.lower() for word in words(text, self.language)]


def rouge_l(material: Material) -> Measured:
    """Return the F1 of the longest common subsequence of words per record (Lin 2004)."""
    pairs = material.pairs()
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=LanguageTokenizer(material.language))
    return Measured([pair and [scorer.score(pair[1], pair[0])["rougeL"].fmeasure] for pair in pairs])


def exact_match(material: Material) -> Measured:
    """Return 1 per record whose answer is the expected one, letter by letter."""
    return Measured([pair and [int(pair[0] == pair[1])] for pair in material.pairs()])


def normalised_match(material: Material) -> Measured:
    """Return 1 per record whose words are the expected ones, case, punctuation and spacing apart."""
    language = material.language
    return Measured(
        [
            pair and [int(normalised_for_match(pair[0], language) == normalised_for_match(pair[1], language))]
            for pair in material.pairs()
        ]
    )


def character_error_rate(material: Material) -> Measured:
    """Return (edit distance, length of the expected answer) per record, in code points of the texts in NFC.

    Summed before dividing, as jiwer does, so that long answers weigh more; it exceeds 1 where far more is written than
    expected.
    """
    return Measured([pair and [edit_distance(*pair), len(pair[1])] for pair in material.pairs()])


def likelihood_rows(material: Material, unit: str) -> Measured:
    """Return (negative log likelihood in nats, units) of the expected answer per record."""
    found = [material.likelihood.get(row["id"]) for row in material.answers]
    rows = [[row["nll"], row[unit]] if row and row[unit] > 0 else None for row in found]
    if not any(rows):
        raise NotApplicableError("the likelihood of expected answers was not computed for these records")
    return Measured(rows)


def perplexity(material: Material) -> Measured:
    """Return the statistics of exp(sum of nll / sum of tokens)."""
    return likelihood_rows(material, "tokens")


def perplexity_per_character(material: Material) -> Measured:
    """Return the statistics of exp(sum of nll / sum of characters)."""
    return likelihood_rows(material, "characters")
