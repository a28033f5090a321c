"""The gateway from outside: a real process over real sockets, with more requests than it can answer."""
