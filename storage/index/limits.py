"""Every bound of the index in one place, with its reason, and the constants of its formulas."""

WORD_CHARS = 40
"""A longer word is cut; hashes and keys longer than that are found by meaning or not at all."""

WORDS_READ = 2_000
"""Words of a text that count: a card's description and tasks have some 60 on average."""

QUERY_WORDS = 64
"""Different words of a question that are looked up. Questions have 8; a pasted page must not cost a hundred times that."""

SPELLED_WORDS = 8
"""Unknown words of a question for which near spellings are tried, some 50 microseconds each."""

SPELLED_CHARS = (4, 20)
"""Only words of these lengths: shorter ones have too many neighbours, longer ones cost too many tries."""

K1 = 1.2
B = 0.75
"""BM25's saturation and length normalisation (Robertson and Zaragoza 2009, section 3.2), at their customary values."""

LEXICAL_WEIGHT = 1.0
"""Weight of the words' share against the cosine where candidates are chosen. .5 to 1.5 are alike on the development questions."""

PIECES = 96
"""Pieces of a text that are kept, and of a question that are compared. Real cards have 28 on average; 4.5 KiB at most."""

RERANKED = 100
"""Candidates that are compared piece by piece: a millisecond or two. On the development questions all 2,100 were no better."""

NEARNESS_WEIGHT = 1.5
RERANKED_LEXICAL_WEIGHT = 0.5
"""Weights of the pieces' nearness and of the words' share against the cosine among the candidates; see docs/decisions/0011."""

NEAR = 0.95
"""The cosine from which on two documents are near-equal. Of the 51,939 pairs of real cards of one organisation 39 are nearer, and of
numbered copies of one card nine tenths."""

CROWD = 4
"""Near-equal documents of one facet that are candidates: no real card has more than three others of its organisation that near."""

CROWDS = 16
"""Crowds that are cut in one question, each for a comparison with all that its facet has."""

STRETCH_GAP = 8
"""Rows are read with those between them if there are fewer than this: collecting a row costs as much as reading five to eight."""

STRETCH_ROWS = 4
"""Wanted rows to a stretch, at least: with fewer, collecting them is quicker."""

STRETCHES = 16
"""Of more stretches words are looked up in all rows from the first to the last: a look into one costs a microsecond a word."""

MERGE_RATIO = 4
"""Neighbours are merged unless the older one is so many times as large: with 60 equal updates there are two segments on average (three with
2), each of which costs a question, and a document is copied six times (four)."""

DEAD_SHARE = 0.5
"""A segment with more dead rows than this is written anew."""

assert LEXICAL_WEIGHT > 0 and NEARNESS_WEIGHT > 0 and RERANKED_LEXICAL_WEIGHT > 0
assert CROWD * CROWDS < RERANKED and 0 < NEAR < 1
assert SPELLED_WORDS <= QUERY_WORDS <= WORDS_READ
assert SPELLED_CHARS[1] <= WORD_CHARS
