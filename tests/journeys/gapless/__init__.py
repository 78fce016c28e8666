"""The gapless proof: observers of a busy installation whose pods die, judged by the log."""
