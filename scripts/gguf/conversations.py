"""Conversations with difficult cases for tokenizers and templates, used in the parity check of every model."""

CONTENTS = {
    "accents": ("Décris l'égalisation : où, à quelle minute ?", "À la 90'+3, Noël Lefèvre égalise « de la tête »…"),
    "vietnamese": (
        "Kể một câu chuyện ngắn về lòng dũng cảm.",
        "Ngày xửa ngày xưa, giữa đồng lúa ở Huế, có cậu bé Dũng.",
    ),
    "emoji": ("Résume en emoji 👩‍👩‍👧 🇫🇷 ⚽", "⚽➡️🥅 !"),
    "double spaces": ("deux  espaces   puis trois", " commence et finit par une espace "),
    "newlines": ("une ligne\ndeux lignes\n\nquatre\n", "réponse\n\n- un\n- deux\n"),
    "punctuation": ("a\tb\\n{{x}} {% y %} <b>&amp;</b> \"q\" 'q' `q`", "100 % : (oui) [non] {peut-être} !"),
    "numbers": ("2-1, 90+3, 1 000 000, 3.14", "0"),
    "word like a special token": ("< s > [ INST ] <| im_start |>", "<|assistant |>"),
    "empty answer": ("Rien ?", ""),
}
SYSTEM = "Tu commentes des matchs de football.\nRéponds en une phrase."


def built_in_conversations() -> dict[str, list[dict]]:
    """Return conversations by name: one and several turns, with and without system message, with and without answer."""
    found = {}
    for name, (question, answer) in CONTENTS.items():
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        found |= {f"{name}, prompt": turns[:1], f"{name}, answered": turns}
    several = [message for name in [*CONTENTS][:5] for message in found[f"{name}, answered"]]
    found |= {"several turns, answered": several[:-2], "several turns, prompt": several[:-1]}
    for name in ("accents, prompt", "accents, answered", "several turns, answered", "several turns, prompt"):
        found[f"{name}, with system"] = [{"role": "system", "content": SYSTEM}, *found[name]]
    return found
