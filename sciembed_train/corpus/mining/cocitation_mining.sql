-- Pairs of papers that are cited together (Mysore et al. 2022, section 3.1). Explained in
-- cocitations.py.
--
-- Input tables: mentions (mention, place, list, digest, stripped, citing): the contexts that may be
-- used; members (list, paper): every list of papers cited together, a group or a paper's references;
-- counted_pairs (a, b, count): pairs that users count, a < b; splits (paper, split 0 train/1 dev/2 test);
-- steps (n): 1, 2, ...

-- name: different
-- A context once, however often it is in the input.
SELECT list, digest, MIN(stripped) AS stripped, MIN(citing) AS citing, MIN(mention) AS mention
FROM mentions
GROUP BY list, digest

-- name: novel
-- Of the contexts of a group that differ in nothing but digits, one.
SELECT list, digest, citing, mention
FROM (
  SELECT list, digest, citing, mention,
    ROW_NUMBER() OVER (PARTITION BY list, stripped ORDER BY digest) AS nth
  FROM different
) x
WHERE nth = 1

-- name: single
-- Of the contexts of a group in one citing paper, one. citing is 0 where it is not known.
SELECT list, digest, mention
FROM (
  SELECT list, digest, citing, mention,
    ROW_NUMBER() OVER (PARTITION BY list, citing ORDER BY digest) AS nth
  FROM novel
) x
WHERE nth = 1 OR citing = 0 OR $one_per_citing = 0

-- name: kept
-- The contexts of groups that have enough of them, numbered so that a group's stand together.
SELECT s.list, s.mention, ROW_NUMBER() OVER (ORDER BY s.list, s.digest) - 1 AS context
FROM single s
JOIN (SELECT list FROM single GROUP BY list HAVING COUNT(*) >= $min_contexts) l ON l.list = s.list

-- name: weights
-- How often the papers of a list are cited together. Lists below 0 are papers' references.
SELECT list, COUNT(*) AS weight FROM kept GROUP BY list
UNION ALL
SELECT list, 1 AS weight FROM members WHERE list < 0 GROUP BY list

-- name: placed
-- The papers of a list on a ring, in hashed order. Every product stays below 2^62.
WITH a AS (
  SELECT list, paper, ((list % $p + $p) % $p * $c0 + $c1) % $p AS z
  FROM (SELECT DISTINCT list, paper FROM members) m
), b AS (
  SELECT list, paper, ((z * z % $p) * z + CAST(paper AS BIGINT) * $c2) % $p AS z FROM a
), c AS (
  SELECT list, paper, ((z * z % $p) * z + $c3) % $p AS z FROM b
), d AS (
  SELECT list, paper, (z * z % $p) * z % $p AS z FROM c
)
SELECT list, paper,
  ROW_NUMBER() OVER (PARTITION BY list ORDER BY z, paper) - 1 AS place,
  COUNT(*) OVER (PARTITION BY list) AS size
FROM d

-- name: met
-- The pairs of a list: neighbours on the ring, then those two steps apart, and so on up to half
-- the ring, which is every pair once; at most $max_pairs of them.
SELECT m.list,
  CASE WHEN m.paper < o.paper THEN m.paper ELSE o.paper END AS a,
  CASE WHEN m.paper < o.paper THEN o.paper ELSE m.paper END AS b
FROM (
  SELECT r.list, r.paper, (r.place + s.n) % r.size AS other
  FROM placed r
  CROSS JOIN steps s
  WHERE (2 * s.n < r.size OR (2 * s.n = r.size AND r.place < s.n))
    AND (s.n - 1) * r.size + r.place < $max_pairs
) m
JOIN placed o ON o.list = m.list AND o.place = m.other

-- name: pairs
SELECT c.a, c.b, c.count, CASE WHEN x.split > y.split THEN x.split ELSE y.split END AS split
FROM (
  SELECT a, b, CASE WHEN SUM(weight) > $most THEN $most ELSE CAST(SUM(weight) AS BIGINT) END AS count
  FROM (
    SELECT m.a, m.b, w.weight FROM met m JOIN weights w ON w.list = m.list
    UNION ALL
    SELECT a, b, count AS weight FROM counted_pairs
  ) u
  GROUP BY a, b
) c
JOIN splits x ON x.paper = c.a
JOIN splits y ON y.paper = c.b
WHERE c.count >= $min_count

-- name: pairs_with_contexts
-- Every pair with the number of each of its contexts; -1 where it has none.
SELECT p.a, p.b, p.split, p.count, COALESCE(c.context, -1) AS context
FROM pairs p
LEFT JOIN (SELECT m.a, m.b, k.context FROM met m JOIN kept k ON k.list = m.list) c
  ON c.a = p.a AND c.b = p.b
ORDER BY p.a, p.b, context

-- name: known
SELECT DISTINCT known
FROM (
  SELECT CAST(a AS BIGINT) * $papers + b AS known FROM met
  UNION ALL
  SELECT CAST(a AS BIGINT) * $papers + b AS known FROM counted_pairs
) u

-- name: cut
-- The contexts' and the papers' lists with more pairs than are taken, and twice the pairs that are not.
SELECT
  CASE WHEN list < 0 THEN 1 ELSE 0 END AS kind,
  COUNT(*) AS lists,
  CAST(SUM(size * (size - 1) - 2 * $max_pairs) AS BIGINT) AS twice
FROM placed
WHERE place = 0 AND size * (size - 1) > 2 * $max_pairs
GROUP BY CASE WHEN list < 0 THEN 1 ELSE 0 END
