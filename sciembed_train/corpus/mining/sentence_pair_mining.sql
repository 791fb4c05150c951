-- Pairs of citing sentences (Mysore et al. 2022). Explained in sentences.py.
--
-- Input tables: citing (mention, place, list, digest, stripped, citing): the sentences that may be
-- used, list being the papers that each cites; cited (list, paper): these papers; splits (paper,
-- split 0 train/1 dev/2 test). What follows from `mentions` to `met` is cocitations.sql's.

-- name: sets
-- Sentences that cite the same papers.
SELECT mention, place, list, digest, stripped, citing FROM citing

-- name: papers
-- Sentences that cite a paper, list by paper. The same paper of two lists makes one list.
SELECT s.mention, s.place, CAST(c.paper AS BIGINT) AS list, s.digest, s.stripped, s.citing
FROM citing s
JOIN (SELECT DISTINCT list, paper FROM cited) c ON c.list = s.list

-- name: numbered
-- Every sentence that is left, once, with the split of the last of the papers that its text cites.
SELECT k.mention, s.list, s.stripped, ROW_NUMBER() OVER (ORDER BY s.list, s.digest) - 1 AS sentence,
  p.split
FROM (SELECT DISTINCT mention FROM kept) k
JOIN citing s ON s.mention = k.mention
JOIN (
  SELECT t.stripped, MAX(x.split) AS split
  FROM (SELECT DISTINCT stripped, list FROM citing) t
  JOIN (SELECT DISTINCT list, paper FROM cited) c ON c.list = t.list
  JOIN splits x ON x.paper = c.paper
  GROUP BY t.stripped
) p ON p.stripped = s.stripped

-- name: members
-- The sentences of each list, in the place of papers.
SELECT k.list, n.sentence AS paper FROM kept k JOIN numbered n ON n.mention = k.mention

-- name: pairs
SELECT m.a, m.b, CASE WHEN x.split > y.split THEN x.split ELSE y.split END AS split
FROM (SELECT DISTINCT a, b FROM met) m
JOIN numbered x ON x.sentence = m.a
JOIN numbered y ON y.sentence = m.b

-- name: ordered_pairs
SELECT a, b, split FROM pairs ORDER BY a, b

-- name: cites
-- Which papers each sentence's text cites.
SELECT DISTINCT n.sentence, c.paper
FROM numbered n
JOIN (SELECT DISTINCT stripped, list FROM citing) t ON t.stripped = n.stripped
JOIN (SELECT DISTINCT list, paper FROM cited) c ON c.list = t.list
