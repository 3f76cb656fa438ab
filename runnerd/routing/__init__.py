"""From a producer's calls to the plugins' queues, and from decisions to results: the runner's loop."""
