"""The product end to end: sources through the queue and the workers into answers, through public doors."""
