"""Container images: one Apptainer definition per environment, and `python -m containers.build`, which builds them."""
