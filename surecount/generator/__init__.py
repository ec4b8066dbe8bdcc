"""Made-up events whose every count and sum is known beforehand. All of it is pure: no client, no clock.

- ``options``: what is asked for
- ``domain``: the values that the pipeline's checks let pass
- ``plan``: which event is where
- ``answers``: the counts and sums that follow
- ``layout``: an event's bytes
- ``bad``: records that can't be used, one kind a line
- ``stream``: the order in which they are sent
- ``rows``: what is handed to the producer for a pathway's topics
"""
