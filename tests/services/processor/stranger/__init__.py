"""A plugin that tries everything, and the surroundings in which it does."""
