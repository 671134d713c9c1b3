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
"""Weight of the words' share against the cosine. .5 to 1.5 are alike on questions and cards kept apart from the frozen ones."""

DEAD_SHARE = 0.5
"""A segment with more dead rows than this is written anew."""

assert LEXICAL_WEIGHT > 0
assert SPELLED_WORDS <= QUERY_WORDS <= WORDS_READ
assert SPELLED_CHARS[1] <= WORD_CHARS
