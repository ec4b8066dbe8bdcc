"""Made-up events whose every count and sum is known beforehand. All of it is pure: no client, no clock.

- ``options``: what is asked for
- ``plan``: which event is where, and the answers that follow
- ``layout``: an event's bytes
- ``bad``: records that can't be used, one kind a line
- ``stream``: the order in which they are sent
"""
