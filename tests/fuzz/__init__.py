"""Fuzzing of everything that reads bytes of others: agents, providers, files that somebody else may have written.

    make fuzz                                      one minute, divided over all targets
    make fuzz MINUTES=10                           longer
    make fuzz ARGS="--only sse --seed 7"           some of them (names that begin so); the inputs of another run again

A *target* (`formats.py`, `policy.py`, `files.py`) is a property of one parser, as a function of bytes that returns or raises. The
properties are of four kinds:

- nothing but the documented error ever comes out;
- an answer is the same whole, byte by byte and cut at random;
- what comes out keeps a promise (`strip` leaves no credential, a scrubbed text holds no key, a changed log is never well), where
  possible against an independent reader (`json`, `socket.inet_aton`, the bytes that were written);
- it is never slow: `steps.py` counts the lines and jumps of the package's own Python, and a target may take so many for each
  byte. Work inside one call of C (`re`, `zlib`, `json`) is one step, so a slow pattern is not seen here.

Inputs are made by Hypothesis (`corpus.py`): seeds (the recordings of ../shared where they are, and our own), changed by cutting,
repeating, crossing and inserting words of the grammar. A failure is made small and printed as a bytes literal: put it into
`REGRESSIONS` of `test_fuzz.py`, then mend the parser.
"""
