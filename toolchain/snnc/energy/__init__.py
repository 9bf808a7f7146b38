"""From a run to joules, or to operations where nobody published joules.

One trace becomes one set of counts (`count.count`); counts become one estimate for each
profile (`estimate.estimate`), which is written as JSON (`report.to_json`) and can be priced
again from it (`record.price`). A profile (`profiles.load_profile`) is a data file in which
every constant has a source. An estimate that lacks a price or a count has no total, and
estimates of different scope are not ranked (`compare.compare`).
"""
