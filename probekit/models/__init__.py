"""A model's name becomes a loaded model, and the loaded model its anatomy."""
