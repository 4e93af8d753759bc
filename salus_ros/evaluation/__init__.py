"""Numbers, statistics, rivals and reports: the judge of everything else, used by the command line only."""
