"""Chat templates in the styles of well-known models: text, BOS, EOS, and where the system message goes."""

from pathlib import Path

from scripts.model.template_date import pinned_template
from tests.support import dated_templates
from tests.support.tiny_model import TEMPLATE

BUILT_IN = Path(__file__).resolve().parent.parent.parent / "scripts" / "model" / "templates"
ALTERNATE = "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}"


def loop(body: str, over: str = "messages") -> str:
    return f"{{% for message in {over} %}}{body}{{% endfor %}}"


def by_role(user: str, assistant: str, system: str | None = None) -> str:
    last = f"{{{{ {system} }}}}" if system else "{{ raise_exception('only user and assistant') }}"
    return (
        f"{{% if message.role == 'user' %}}{{{{ {user} }}}}{{% elif message.role == 'assistant' %}}"
        f"{{{{ {assistant} }}}}{{% else %}}{last}{{% endif %}}"
    )


SPLIT = (
    "{% set rest = messages %}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set rest = messages[1:] %}{% endif %}"
)
FIRST = "('<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' if system is defined and loop.first else '')"
LAST = "(system + '\\n\\n' if system is defined and loop.last else '')"
PROMPT = "{% if add_generation_prompt %}"
TEMPLATES = {
    "built-in chatml": ((BUILT_IN / "chatml.jinja").read_text(), "<s>", "<|im_end|>", "in_place"),
    "built-in llama3": ((BUILT_IN / "llama3.jinja").read_text(), "<|begin_of_text|>", "<|eot_id|>", "in_place"),
    "built-in phi3": ((BUILT_IN / "phi3.jinja").read_text(), "<s>", "<|end|>", "in_place"),
    "built-in mistral3": ((BUILT_IN / "mistral3.jinja").read_text(), "<s>", "</s>", "in_place"),
    "built-in mistral": ((BUILT_IN / "mistral.jinja").read_text(), "<s>", "</s>", "first_user"),
    "tests": (TEMPLATE, "<s>", "</s>", "first_user"),
    "mistral v0.1": (
        "{{ bos_token }}"
        + loop(ALTERNATE + by_role("'[INST] ' + message.content + ' [/INST]'", "message.content + eos_token + ' '")),
        "<s>", "</s>", "none",
    ),
    "mistral v0.3": (
        SPLIT + "{{ bos_token }}"
        + loop(by_role(f"'[INST] ' + {LAST} + message.content + '[/INST]'", "' ' + message.content | trim + eos_token"),
               "rest"),
        "<s>", "</s>", "last_message",
    ),
    "mistral tekken": (
        SPLIT + "{{ bos_token }}"
        + loop(by_role(f"'[INST]' + {LAST} + message.content + '[/INST]'", "message.content + eos_token"), "rest"),
        "<s>", "</s>", "last_message",
    ),
    "mistral v7": (
        "{{ bos_token }}"
        + loop(by_role("'[INST]' + message.content + '[/INST]'", "message.content + eos_token",
                       "'[SYSTEM_PROMPT]' + message.content + '[/SYSTEM_PROMPT]'")),
        "<s>", "</s>", "in_place",
    ),
    "llama 2": (
        SPLIT
        + loop("{% set content = " + FIRST + " + message.content %}"
               + by_role("bos_token + '[INST] ' + content.strip() + ' [/INST]'",
                         "' ' + content.strip() + ' ' + eos_token"), "rest"),
        "<s>", "</s>", "first_user",
    ),
    "llama 3": (
        loop("{% set content = '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim"
             " + '<|eot_id|>' %}{% if loop.first %}{% set content = bos_token + content %}{% endif %}{{ content }}")
        + PROMPT + "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|begin_of_text|>", "<|eot_id|>", "in_place",
    ),
    "llama 3.1, dated": (
        pinned_template(dated_templates.LLAMA, "2025-03-17")[0], "<|begin_of_text|>", "<|eot_id|>", "at_start",
    ),
    "mistral small 3.1, dated": (
        pinned_template(dated_templates.MISTRAL, "2025-03-17")[0], "<s>", "</s>", "at_start",
    ),
    "zephyr": (
        loop("\n{{ '<|' + message.role + '|>\n' + message.content + eos_token }}\n"
             "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"),
        "<s>", "</s>", "in_place",
    ),
    "phi 3": (
        "{{ bos_token }}" + loop("{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}")
        + PROMPT + "{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        "<s>", "<|endoftext|>", "in_place",
    ),
    "qwen": (
        loop("{% if loop.first and message.role != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}"
             "{% endif %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}")
        + PROMPT + "{{ '<|im_start|>assistant\n' }}{% endif %}",
        "", "<|im_end|>", "at_start",
    ),
    "gemma": (
        "{{ bos_token }}"
        + loop(by_role("'<start_of_turn>user\n' + message.content | trim + '<end_of_turn>\n'",
                       "'<start_of_turn>model\n' + message.content | trim + '<end_of_turn>\n'"))
        + PROMPT + "{{ '<start_of_turn>model\n' }}{% endif %}",
        "<bos>", "<eos>", "none",
    ),
    "system in the last question": (
        SPLIT + "{% set ns = namespace(last=0) %}"
        + loop("{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}", "rest")
        + loop(by_role("'Q: ' + (system + ' ' if system is defined and loop.index0 == ns.last else '')"
                       " + message.content + '\n'", "'A: ' + message.content + eos_token + '\n'"), "rest")
        + PROMPT + "A:{% endif %}",
        "", "</s>", "last_user",
    ),
    "what Go and Modelfiles trip over": (
        "{{ bos_token }}"
        + loop("{{ '{{' + message.role + '}} «\u00a0' + message.content + '\u00a0» \"\"\" \\\\n\r\n\t' }}")
        + PROMPT + "{{ '{{assistant}} «\u00a0' }}{% endif %}",
        "<s>", "</s>", "in_place",
    ),
}  # fmt: skip
