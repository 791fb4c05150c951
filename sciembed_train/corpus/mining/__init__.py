"""Mining of triplets and pairs from citations, contexts and relations."""
