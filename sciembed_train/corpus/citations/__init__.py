"""Citations, citing sentences and counted pairs, and the citation mentions in a sentence."""
