"""GPU memory of a run, estimated from the configuration and the model's shape before anything is downloaded."""
