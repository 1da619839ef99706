"""The page of `robnet-zoo edit`: a cell is drawn and changed, and an attack is watched, in a browser on this machine.

The page holds a draft and asks for everything else: `changes` makes the next draft, `view` says what is to be shown of
it, `watch` runs an attack step by step, and `app` answers the page. Between two questions the server remembers nothing
but models and pictures, so two windows do not meet, and a server that was killed is simply started again.
"""
