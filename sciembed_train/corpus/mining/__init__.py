"""Who should meet whom, mined from citations in SQL."""
