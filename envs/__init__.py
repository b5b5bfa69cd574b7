"""The environments: direct requirements (`*.in`), hash-locked versions (`*.lock`), and the conda files made of them."""
