"""Random traffic for an hour or 50,000 requests: nothing leaks, nothing is lost, answers are as they would be alone."""
