"""What to cite for an answer: only what was used to find it."""

from __future__ import annotations

from steadygaze.answer.result import Result

METHOD = (
    "S. Munakata, C. Urban, H. Yokoyama, K. Yamamoto, K. Munakata: Verifying Attention Robustness of Deep "
    "Neural Networks against Semantic Perturbations. NASA Formal Methods (NFM 2023), LNCS 13903; "
    "arXiv:2207.05902."
)
_NEAREST = (
    "M. Jordan, J. Lewis, A. G. Dimakis: Provable Certificates for Adversarial Examples: Fitting a Ball in "
    "the Union of Polytopes. NeurIPS 2019; arXiv:1903.08778."
)
_AFFINE_FORMS = (
    "G. Singh, T. Gehr, M. Mirman, M. Püschel, M. Vechev: Fast and Effective Robustness Certification. "
    "NeurIPS 2018.",
)
BY_ENGINE = {
    "bound": _AFFINE_FORMS,
    "nearest": (_NEAREST,),
    "sweep": (
        "M. Sotoudeh, A. V. Thakur: Computing Linear Restrictions of Neural Networks. NeurIPS 2019; "
        "arXiv:1908.06214.",
        "A. Berzins: Polyhedral Complex Extraction from ReLU Networks using Edge Subdivision. ICML 2023; "
        "arXiv:2306.07212.",
    ),
}
_GRADIENT = (
    "K. Simonyan, A. Vedaldi, A. Zisserman: Deep Inside Convolutional Networks: Visualising Image "
    "Classification Models and Saliency Maps. ICLR workshop 2014; arXiv:1312.6034."
)
BY_SALIENCY = {
    "gradient": (_GRADIENT,),
    "abs-gradient": (_GRADIENT,),
    "gradient-x-input": (
        "A. Shrikumar, P. Greenside, A. Shcherbina, A. Kundaje: Not Just a Black Box: Learning Important "
        "Features Through Propagating Activation Differences. 2016; arXiv:1605.01713.",
    ),
    "softmax-gradient": (_GRADIENT,),
    "integrated-gradients": (
        "M. Sundararajan, A. Taly, Q. Yan: Axiomatic Attribution for Deep Networks. ICML 2017; "
        "arXiv:1703.01365.",
    ),
    "grad-cam": (
        "R. R. Selvaraju, M. Cogswell, A. Das, R. Vedantam, D. Parikh, D. Batra: Grad-CAM: Visual "
        "Explanations from Deep Networks via Gradient-Based Localization. ICCV 2017; arXiv:1610.02391.",
    ),
}
BY_INCONSISTENCY = {
    "top-k": (
        "A. Ghorbani, A. Abid, J. Zou: Interpretation of Neural Networks is Fragile. AAAI 2019; "
        "arXiv:1710.10547.",
    ),
}


def references(result: Result) -> list[str]:
    """The method first, then the engine, the saliency map and the inconsistency of ``result``."""
    problem = result.problem
    return [
        METHOD,
        *(paper for engine in result.method.split(" + ") for paper in BY_ENGINE.get(engine, ())),
        *BY_SALIENCY.get(problem.saliency, ()),
        *BY_INCONSISTENCY.get(problem.inconsistency.partition("(")[0], ()),
    ]
