"""The two processes of a tunnel: who starts whom, what happens on which event, and how each of them ends."""
