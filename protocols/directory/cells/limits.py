"""Every bound of the cells in one place, with its reason, and the constants of the formulas; docs/decisions/0031 has the figures."""

CELLS = (64, 1024)
"""The fewest and the most cells of a codebook."""

RECORDS_A_CELL = 24
"""Cells are doubled until they hold no more on average: small ones let a question look at little, and cost a holder nothing."""

SUBCENTROIDS = (4, 16)
"""The fewest and the most of a cell's points; that of 1,024 cells with 16 each are 6.3 MB."""

RECORDS_A_SUBCENTROID = 2.5
"""A cell has as many points as leave each so many records, within the bounds above."""

BALANCE = 1.5
"""The largest cell over the mean that a codebook may have on the records that it is checked with."""

GOOD_RECALL = 0.8
GOOD_BALANCE = 4.0
"""What a codebook must reach on the records of whoever checks it. On the real cards a good one has .998 and 1.3; one trained on half of
them, by the other half, .92 and 2.0; invented points .18 and 137."""

CHECKED_WITH = 300
"""Records that are taken for questions in a check."""

WORN_BALANCE = 3.0
"""With so much in the largest cell over the mean a codebook is to be followed by another. Training reaches 1.25 on its own records; on what
it has not seen, or by a sample of 8 to a cell, a good one has up to 2.5; one whose records have changed, 13."""

WORN_GROWTH = 2.0
"""So is one whose cells hold so many times the most that training leaves them on average, or so small a part of the least."""

RECALL_GAINED = 0.1
"""What a codebook must find more of, by the measure above, to follow one that is not worn."""

SUCCESSOR_RECORDS = 20_000
"""What a successor is trained on at most: some 60 MB, fetched from all holders; 20 to a cell."""

JUDGED_A_CELL = 8
"""Records to a cell that a successor is judged by: of 1,024 cells some 25 MB."""

REACHED = 0.9
"""The share of all holders' places that a sample must reach, and of cells whose summaries must be known, to say something of the whole."""

CELLS_FROM = 2_000
"""With fewer records the directory stays whole: every node holds all, and asks nobody."""

TRAINED_BALANCE = 1.25
"""What training aims at, so that records that come later have room."""

TRAINING_RECORDS = 60_000
"""Of more records a sample is trained on: 60 to a cell, as k-means wants."""

ROUNDS, SUB_ROUNDS = 20, 8
"""Rounds of k-means over all records, and within a cell."""

BALANCING_ROUNDS = 400

SHARPNESS = 40.0
"""How a cell's nearness follows from those of its points: close to the nearest, but many near ones count. 30 to 60 are alike."""

WORDS_WEIGHT = 0.45
"""What a question's word that a cell has adds to its nearness, times the word's share of the question's rarity: a word that occurs once in
a text of mean length earns this share of the best possible score (1 of K1 + 1)."""

SCANNED = 0.2
"""A question is sent to the nearest cells that together hold this share of all records."""

SCANNED_FILTERED = 0.3
"""Under conditions, to those that hold so many records that may fulfil them, as a share of all records; few that do are looked at all."""

SCANNED_LEAST = 256
"""Under conditions, to so many records in any case: how many fulfil them is estimated, and least well where they are few."""

CELLS_ASKED = 64
"""At most, without conditions: from some 8,000 records on the share above is no longer reached, nor needed."""

UNTOLD_ASKED = 64
"""Beside those, so many of which nobody has told yet: for a turn or two after a start, or when cells have just been cut."""

VOCABULARY = 32_768
"""Stems and spellings whose frequency a codebook carries, the commonest first; the others count as occurring once."""

SUMMARY_WORDS = 4_096
"""Stems named in a cell's summary, the rarest first: four bytes each."""

SUMMARY_WORDS_A_RECORD = 96
"""Stems of one record that a summary may name: real cards have some 30, and a list of words has no cell asked about everything."""

SUMMARY_FACETS = 1_024
"""Facets named in a cell's summary, the commonest first: eight bytes each."""

CROWDED = 8
"""A cell counts for no more than so many times what cells hold in the middle, whatever its summary says."""

COPIES = 3
"""Nodes that hold a place, each of another organisation: two may be gone, or one lie and one be gone."""

ID_PLACES = 256
"""Places by agents' ids, in which whoever has an id finds the record."""

COSTS = 16
"""Steps of a summary's histogram of prices."""

CELL_RECORDS = 1 << 20
"""Records of one cell that a summary may claim."""

SUMMARY_BYTES = 32 << 10

CODEBOOK_BYTES = 8 << 20
"""An encoded codebook: centroids 6.3 MB, vocabulary 1 MB at most."""

assert 4 * SUMMARY_WORDS + 8 * SUMMARY_FACETS + 256 < SUMMARY_BYTES
assert CELLS[0] < CELLS[1] <= 1 << 16 and SUBCENTROIDS[0] < SUBCENTROIDS[1]
assert TRAINED_BALANCE < BALANCE < WORN_BALANCE <= GOOD_BALANCE and WORN_GROWTH > 1 and SCANNED < SCANNED_FILTERED < 1
assert CELLS[1] * SUBCENTROIDS[1] * 384 + VOCABULARY * 2 * 24 < CODEBOOK_BYTES
assert 127 * 127 * 384 < 2**24, "placement multiplies integers as 32-bit floats, which is exact below 2**24"
