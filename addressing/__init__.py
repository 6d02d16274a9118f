"""Address plans: pure functions, from what there is and the plan before to the plan after.

Where to look:

A county's own plan, which routers and the lab are made from
    model, plan, planfile

A hierarchy of divisions, from a county to a country
    text, orders            addresses as text; the orders of RFC 3531
    policy, policyfile      what a planner decides, and the layout that follows
    divisions               lists of divisions as received (divisiontable, packed, divisionnames)
    budget                  how many bits each level gets (fanouts, widths, ratios, ownareas; budgettable says why)
    hierarchy               slots and prefixes; carrying a plan on (hierarchyfile: as a file; register: who gave what)
    succession              what became of each division in a new list (heirs, decisions; unmoved proves it)
    outlook                 borders, forecast, what-if

Any plan
    entries                 one row of prefixes, whatever the plan
    attribution             whose address is this
    lint, special           what is allowed, yet will hurt; blocks not for ordinary use
    checker, check*         the independent checker, which imports nothing of all this; signing
    exports, transition     for other tools; from IPv4 to IPv6
    planmap                 the picture

Networks to be joined
    prefixtables            whose blocks are which
    overlaps, leaks         what meets, also by leaked routes
    resolution              what to do about it, at least cost
    overlapfindings         all of that at one go (overlapreport says it, to people, machines and the office)
"""
