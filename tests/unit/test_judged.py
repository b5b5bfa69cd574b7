"""What a vote holds for."""

from scripts.common.judged import judged_hash

PROMPT = [{"role": "user", "content": "Minute 12'. Événement : But."}]
HASH = "28c30cf561b5456bd4af0f170522908f"


def test_a_vote_holds_for_the_same_prompt_and_answer_and_no_other():
    other_order = [dict(reversed(PROMPT[0].items()))]
    assert judged_hash(PROMPT, "Hôa marque !") == judged_hash(other_order, " Ho\u0302a marque !\n") == HASH
    assert len({HASH, judged_hash(PROMPT, "Hoa marque !"), judged_hash([], "Hôa marque !")}) == 3
