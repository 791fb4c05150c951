-- SPECTER triplets from citations (Cohan et al. 2020, section 3.2). Explained in triplets.py.
--
-- Input tables: papers (paper, usable 0/1, split 0 train/1 dev/2 test), citations (citing, cited),
-- texts (slot, paper): the usable papers numbered 0.. in order; numbers (n): 0..; plan: see
-- slot_plan. A hash is two or three rounds of z -> z^3 + c modulo the prime $p = 2^31 - 69, for
-- which cubing is one-to-one; every product stays below 2^62 and every sum below 2^63.

-- name: edges
SELECT c.citing, c.cited, a.split
FROM citations c
JOIN papers a ON a.paper = c.citing
JOIN papers b ON b.paper = c.cited
WHERE a.usable = 1 AND b.usable = 1

-- name: hops
-- The citations by which a query reaches two-hop papers: without those of very long lists.
SELECT e.citing, e.cited, e.split
FROM edges e
JOIN (SELECT citing FROM edges GROUP BY citing HAVING COUNT(*) <= $max_references) few
  ON few.citing = e.citing

-- name: reach
-- Whom each query of a shard reaches. kind 2: cites; 1: cited by a training paper it cites; 0:
-- cited only by held-out papers it cites (never a hard negative, and never an easy one either).
SELECT query, paper, MAX(kind) AS kind
FROM (
  SELECT citing AS query, cited AS paper, 2 AS kind
  FROM edges
  WHERE citing >= $low AND citing < $high
  UNION ALL
  SELECT q.citing AS query, h.cited AS paper, CASE WHEN h.split = 0 THEN 1 ELSE 0 END AS kind
  FROM edges q
  JOIN hops h ON h.citing = q.cited
  WHERE q.citing >= $low AND q.citing < $high AND h.cited <> q.citing
) met
GROUP BY query, paper

-- name: ranked
-- The first $per_query papers of each kind, positives and hard negatives, in hashed order.
WITH a AS (
  SELECT query, paper, kind, (CAST(query AS BIGINT) * $c0 + CAST(kind AS BIGINT) * $c1 + $c2) % $p AS z
  FROM reach
  WHERE kind > 0
), b AS (
  SELECT query, paper, kind, ((z * z % $p) * z + CAST(paper AS BIGINT) * $c3) % $p AS z FROM a
), c AS (
  SELECT query, paper, kind, ((z * z % $p) * z + $c4) % $p AS z FROM b
), d AS (
  SELECT query, paper, kind, (z * z % $p) * z % $p AS z FROM c
), e AS (
  SELECT query, paper, kind, ROW_NUMBER() OVER (PARTITION BY query, kind ORDER BY z, paper) - 1 AS place
  FROM d
)
SELECT query, paper, kind, place FROM e WHERE place < $per_query

-- name: counted
-- Each query with its positives and hard negatives (both counted up to $per_query), and the number
-- of papers left for easy ones.
SELECT r.query, r.positives, r.hards, $texts - 1 - n.reached AS room
FROM (
  SELECT
    query,
    CAST(SUM(CASE WHEN kind = 2 THEN 1 ELSE 0 END) AS INT) AS positives,
    CAST(SUM(CASE WHEN kind = 1 THEN 1 ELSE 0 END) AS INT) AS hards
  FROM ranked
  GROUP BY query
) r
JOIN (SELECT query, COUNT(*) AS reached FROM reach GROUP BY query) n ON n.query = r.query

-- name: wanted
-- The queries that take part, how many easy negatives each needs, and where its walk over the
-- texts starts and how far it steps.
WITH a AS (
  SELECT c.query, c.positives, c.hards, c.room, p.easy,
    (CAST(c.query AS BIGINT) * $c5 + $c6) % $p AS z
  FROM counted c
  JOIN (SELECT positives, hards, CAST(SUM(1 - hard) AS INT) AS easy FROM plan GROUP BY positives, hards) p
    ON p.positives = c.positives AND p.hards = c.hards
  WHERE c.hards >= $need_hard
), b AS (
  SELECT query, positives, hards, room, easy, ((z * z % $p) * z + $c7) % $p AS z FROM a
), c AS (
  SELECT query, positives, hards, room, easy, ((z * z % $p) * z + $c8) % $p AS z FROM b
), d AS (
  SELECT query, positives, hards, room, easy, z, ((z * z % $p) * z + $c9) % $p AS y FROM c
)
SELECT
  query, positives, hards,
  CASE WHEN room < easy THEN room ELSE easy END AS easy,
  z % $prime AS start,
  1 + ((y * y % $p) * y % $p) % ($prime - 1) AS stride
FROM d

-- name: found
-- Easy negatives: steps $first to $first + $count - 1 of the walks of the queries that still lack
-- some. $prime is a prime not below the number of texts, so a walk of $prime steps visits every text
-- exactly once.
SELECT t.query, x.paper, t.step
FROM (
  SELECT w.query, n.n + $first AS step, (w.start + (n.n + $first) * w.stride) % $prime AS slot
  FROM wanted w
  CROSS JOIN numbers n
  LEFT JOIN (SELECT query, COUNT(*) AS easy FROM easy GROUP BY query) f ON f.query = w.query
  WHERE n.n < $count AND w.easy > COALESCE(f.easy, 0)
) t
JOIN texts x ON x.slot = t.slot
LEFT JOIN reach r ON r.query = t.query AND r.paper = x.paper
WHERE r.paper IS NULL AND x.paper <> t.query

-- name: lacking
SELECT COUNT(*) AS n
FROM wanted w
LEFT JOIN (SELECT query, COUNT(*) AS easy FROM easy GROUP BY query) f ON f.query = w.query
WHERE w.easy > COALESCE(f.easy, 0)

-- name: triplets
SELECT w.query, p.paper AS positive, n.paper AS negative, s.hard
FROM wanted w
JOIN plan s ON s.positives = w.positives AND s.hards = w.hards
JOIN ranked p ON p.query = w.query AND p.kind = 2 AND p.place = s.positive_place
JOIN (
  SELECT query, paper, 1 AS hard, place FROM ranked WHERE kind = 1
  UNION ALL
  SELECT query, paper, 0 AS hard, ROW_NUMBER() OVER (PARTITION BY query ORDER BY step) - 1 AS place
  FROM easy
) n ON n.query = w.query AND n.hard = s.hard AND n.place = s.negative_place
ORDER BY w.query, s.slot
