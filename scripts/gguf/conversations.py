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


def user(content: str) -> dict:
    """Return a user's message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> dict:
    """Return an assistant's message."""
    return {"role": "assistant", "content": content}


def built_in_conversations() -> dict[str, list[dict]]:
    """Return conversations by name: one and several turns, with and without system message, with and without answer."""
    found = {}
    for name, (question, answer) in CONTENTS.items():
        found[f"{name}, prompt"] = [user(question)]
        found[f"{name}, answered"] = [user(question), assistant(answer)]
    pairs = list(CONTENTS.values())
    several = [message for question, answer in pairs[:4] for message in (user(question), assistant(answer))]
    found["several turns, answered"] = several
    found["several turns, prompt"] = [*several, user(pairs[4][0])]
    for name in ("accents, prompt", "accents, answered", "several turns, answered", "several turns, prompt"):
        found[f"{name}, with system"] = [{"role": "system", "content": SYSTEM}, *found[name]]
    return found
