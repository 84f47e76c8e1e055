"""What is written beside the experiments: how to read them, and where the laws come from."""

READING = """
<div style="line-height: 1.42; font-size: 0.95em">
<p style="margin: 2px 0 7px"><b>How many examples does each level of the tree need?</b> Far fewer
than the grammar has strings: its rules are found from the leaves upwards, a level at a time.</p>
<p style="margin: 0 0 7px">Marks are measured, with standard errors over grammars. Dashed lines are
laws without a free constant. Open triangles are laws up to a constant, which is fitted once for
all curves of a panel.</p>
<p style="margin: 0 0 7px"><b>rescale</b> divides the axis by the law: where the law holds, curves
fall on each other. <b>measure</b> takes one more grammar and P examples, now; its marks are
magenta diamonds.</p>
<p style="margin: 0 0 4px">Rules of height h make the symbols h levels above the leaves; two leaves
at distance ℓ have their common ancestor ℓ levels up.</p>
<ul style="margin: 0; padding-left: 18px">
<li><i>Tuples</i> (arXiv 2307.02129): with which classes does a tuple of leaves come?</li>
<li><i>Correlations</i> (2406.00048, 2505.07070): of two leaves, by distance.</li>
<li><i>Latents or tokens</i> (2605.27734): counting and k-means, no network.</li>
<li><i>Diffusion</i> (2502.12089): a small network, stopped at its least validation loss; what it
generates is parsed exactly. The paper's noise is uniform, here leaves are masked; it predicts the
order of magnitude v m^(h+1), here measured where a height is half learned, at one size of grammar.
</li>
<li><i>Memorisation</i> (2505.16959): the same network, trained on.</li>
</ul>
</div>
"""
