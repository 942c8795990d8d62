"""Sound: Opus, the jitter buffer, echo cancellation, devices."""
