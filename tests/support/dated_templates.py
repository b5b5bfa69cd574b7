"""Chat templates that ask for the current date, built as those of Llama 3.1 and of Mistral Small 3.1 are."""

LLAMA = """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set system_text = "" %}
{%- if messages[0]["role"] == "system" %}
    {%- set system_text = messages[0]["content"] | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: tools\\n" }}
{%- endif %}
{{- "Knowledge: December 2023\\nToday: " + date_string + "\\n\\n" }}
{{- system_text + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if message.role == "tool" or "tool_calls" in message %}
        {{- raise_exception("tools are not part of this test") }}
    {%- endif %}
    {{- "<|start_header_id|>" + message["role"] + "<|end_header_id|>\\n\\n" }}
    {{- message["content"] | trim + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}
"""
MISTRAL = """\
{%- set today = strftime_now("%Y-%m-%d") %}
{{- bos_token }}
{%- if messages[0]["role"] == "system" %}
    {%- set system_text = messages[0]["content"] %}
    {%- set rounds = messages[1:] %}
{%- else %}
    {%- set system_text = "You help. The current date is " + today + "." %}
    {%- set rounds = messages %}
{%- endif %}
{{- "[SYSTEM_PROMPT]" + system_text + "[/SYSTEM_PROMPT]" }}
{%- for message in rounds %}
    {%- if message["role"] == "user" %}
        {{- "[INST]" + message["content"] + "[/INST]" }}
    {%- else %}
        {{- message["content"] + eos_token }}
    {%- endif %}
{%- endfor %}
"""
