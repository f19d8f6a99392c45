"""One HTML file that needs nothing else: what an estimate says, drawn and told.

In: a case, or curves, or results of a search. Out: a page with plotly.js inside. Every chart is a
plain mapping in plotly's format whose colours are names of the style sheet's variables, so that one
figure serves light, dark and print; every chart has a sentence and a table beside it.
"""
