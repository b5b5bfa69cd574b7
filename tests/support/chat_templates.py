"""Chat templates in the styles of well-known models: text, BOS, EOS, and where the system message goes."""

from pathlib import Path

from scripts.model.chat_templates import BUILT_IN_TEMPLATES
from scripts.model.template_date import pinned_template
from tests.support.tiny_model import TEMPLATE

FOLDER = Path(__file__).parent / "templates"


def template_text(name: str) -> str:
    """Return the text of a built-in template."""
    return BUILT_IN_TEMPLATES[name].read_text(encoding="utf-8")


def style(name: str) -> str:
    """Return the text of a template of the folder."""
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


LLAMA, MISTRAL = style("llama_3.1_dated"), style("mistral_small_3.1_dated")  # they ask for the current date
HARD = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '{{' + message.role + '}} «\u00a0' + message.content + '\u00a0» \"\"\" \\\\n\r\n\t' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '{{assistant}} «\u00a0' }}{% endif %}"
)
TEMPLATES = {
    "built-in chatml": (template_text("chatml"), "<s>", "<|im_end|>", "in_place"),
    "built-in llama3": (template_text("llama3"), "<|begin_of_text|>", "<|eot_id|>", "in_place"),
    "built-in phi3": (template_text("phi3"), "<s>", "<|end|>", "in_place"),
    "built-in mistral3": (template_text("mistral3"), "<s>", "</s>", "in_place"),
    "built-in mistral": (template_text("mistral"), "<s>", "</s>", "first_user"),
    "tests": (TEMPLATE, "<s>", "</s>", "first_user"),
    "mistral v0.1": (style("mistral_v0.1"), "<s>", "</s>", "none"),
    "mistral v0.3": (style("mistral_v0.3"), "<s>", "</s>", "last_message"),
    "llama 2": (style("llama_2"), "<s>", "</s>", "first_user"),
    "llama 3": (style("llama_3"), "<|begin_of_text|>", "<|eot_id|>", "in_place"),
    "llama 3.1": (pinned_template(LLAMA, "2025-03-17")[0], "<|begin_of_text|>", "<|eot_id|>", "at_start"),
    "mistral small 3.1": (pinned_template(MISTRAL, "2025-03-17")[0], "<s>", "</s>", "at_start"),
    "zephyr": (style("zephyr"), "<s>", "</s>", "in_place"),
    "phi 3": (style("phi_3"), "<s>", "<|endoftext|>", "in_place"),
    "qwen": (style("qwen"), "", "<|im_end|>", "at_start"),
    "gemma": (style("gemma"), "<bos>", "<eos>", "none"),
    "system in the last question": (style("system_in_last_question"), "", "</s>", "last_user"),
    "what Go and Modelfiles trip over": (HARD, "<s>", "</s>", "in_place"),
}
