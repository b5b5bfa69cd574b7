"""The metrics of scripts/score, read from their decorators. Made by `make docs`; do not edit."""

# ruff: noqa: E501
from scripts.score.metrics import Metric

# fmt: off
METRICS = {
    'perplexity': Metric('Perplexity per token', direction='lower', statistic='exp_ratio', tables={'text': 2}),
    'perplexity_per_character': Metric('Perplexity per character', direction='lower', statistic='exp_ratio', tables={'exact': 5, 'text': 1}),
    'bleu': Metric('BLEU', direction='higher', statistic='bleu', tables={'text': 5}),
    'chrf': Metric('chrF', direction='higher', statistic='chrf', tables={'exact': 4, 'text': 3}),
    'rouge_l': Metric('ROUGE-L', direction='higher', unit='%', tables={'text': 4}),
    'exact_match': Metric('Exact match', direction='higher', statistic='yes_no', tables={'exact': 1}, classifier=True),
    'normalised_match': Metric('Normalised match', direction='higher', statistic='yes_no', tables={'exact': 2}),
    'character_error_rate': Metric('Character error rate', direction='lower', statistic='ratio', unit='%', unbounded=True, tables={'exact': 3}),
    'distinct_1': Metric('Distinct words', direction='higher', unit='%'),
    'distinct_2': Metric('Distinct word pairs', direction='higher', unit='%', tables={'text': 7}),
    'repetition': Metric('Repetition within answers', direction='lower', unit='%', tables={'text': 6}),
    'repetition_across': Metric('Repetition across answers', direction='lower', unit='%'),
    'length_mean': Metric('Mean length', direction='neither', unit='words'),
    'length_variation': Metric('Length variation', direction='neither', statistic='variation', unit='%', unbounded=True, tables={'text': 8}),
    'generic_phrase_rate': Metric('Generic phrases', direction='lower', statistic='yes_no', setting='generic_phrases'),
    'seconds_p50': Metric('Seconds per answer, median', direction='lower', statistic='p50', tables={'entities': 9, 'exact': 7, 'text': 10}, classifier=True),
    'seconds_p95': Metric('Seconds per answer, 95th percentile', direction='lower', statistic='p95', classifier=True),
    'cost_per_1000': Metric('Cost of 1,000 answers', direction='lower', tables={'entities': 10, 'exact': 8, 'text': 11}, optional=True, classifier=True, setting='price_per_hour'),
    'finished': Metric('Finished answers', direction='higher', statistic='yes_no', tables={'exact': 6, 'text': 9}),
    'exclamation_rate': Metric('With an exclamation mark', direction='neither', statistic='yes_no', tables={'style': 3}),
    'emoji_rate': Metric('With an emoji', direction='neither', statistic='yes_no', tables={'style': 4}),
    'style_overlap': Metric('Word pairs and triples of training', direction='higher', unit='%', tables={'style': 1}),
    'length_ratio': Metric('Length against training', direction='neither', unit='%', unbounded=True, tables={'style': 2}),
    'assistant_phrase_rate': Metric('Assistant-speak', direction='lower', statistic='yes_no', tables={'style': 5}, setting='assistant_phrases'),
    'entity_f1': Metric('Entity F1, strict', direction='higher', statistic='f1', tables={'entities': 1}, spans=True, classifier=True),
    'entity_precision': Metric('Entity precision, strict', direction='higher', statistic='share', tables={'entities': 2}, spans=True, classifier=True),
    'entity_recall': Metric('Entity recall, strict', direction='higher', statistic='share', tables={'entities': 3}, spans=True, classifier=True),
    'entity_f1_macro': Metric('Entity F1, strict, mean of classes', direction='higher', statistic='f1_macro', tables={'entities': 4}, spans=True, classifier=True),
    'token_f1_micro': Metric('Token F1, micro', direction='higher', statistic='f1', tables={'entities': 7}, spans=True, classifier=True),
    'token_f1_macro': Metric('Token F1, macro', direction='higher', statistic='f1_macro', tables={'entities': 6}, spans=True, classifier=True),
    'token_f1_weighted': Metric('Token F1, weighted', direction='higher', statistic='f1_weighted', tables={'entities': 5}, spans=True, classifier=True),
    'parsed': Metric('Answers that are valid JSON', direction='higher', statistic='yes_no', tables={'entities': 8}, optional=True, spans=True),
}
