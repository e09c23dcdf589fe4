"""The synthetic arena in other languages: the same personalities, prompts and votes, said in other words.

Every English word becomes one or two words of the other language, always the same ones, with the marks, spacing and
script of that language. The texts mean nothing; who wrote them shows in the same habits as in English.
"""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import blake2b

import pyarrow as pa

from model_behavior.data_models.votes import PairTable, TrainingData

WORDS: dict[str, str] = {
    "zh": (
        "的 是 在 了 和 我们 可以 这个 时间 问题 工作 学习 生活 因为 所以 但是 如果 然后 首先 其次 最后 重要 "
        "方法 使用 需要 建议 注意 选择 水 温度 每天 早上 晚上 开始 结束 增加 减少 保持 检查 练习 简单 困难 "
        "当然 希望 帮助 例如 通常 可能 非常 比较 同时 已经 还有 没有 应该 知道 觉得 看到 做好 准备 结果 原因 "
        "部分 质量"
    ),
    "ja": (
        "は が を に で と も から まで です ます こと もの 時間 問題 仕事 生活 方法 必要 大切 簡単 確認 "
        "練習 準備 毎日 最初 最後 そして しかし また 例えば もちろん たぶん 普通 とても 少し 水 温度 朝 夜 "
        "開始 終了 選択 注意 理由 結果 部分 品質 使う 見る 聞く 書く 読む 考える 続ける 始める 終わる 助ける "
        "増やす 減らす 保つ 選ぶ 知る"
    ),
    "th": (
        "ที่ และ ใน ของ เป็น มี ได้ ให้ กับ จาก แต่ หรือ เพราะ ดังนั้น ถ้า แล้ว ก่อน หลัง เวลา งาน น้ำ ชีวิต "
        "ปัญหา วิธี การ ความ สำคัญ ง่าย ยาก ทุกวัน เช้า เย็น เริ่ม จบ เพิ่ม ลด รักษา ตรวจ ฝึก เลือก ใช้ ต้อง "
        "ควร อาจ มาก น้อย ดี ใหม่ ตัวอย่าง แน่นอน หวัง ช่วย เตรียม ผล เหตุผล ส่วน คุณภาพ รู้ เห็น คิด ทำ ไป "
        "มา อยู่"
    ),
    "ar": (
        "في من على إلى عن مع هذا هذه التي الذي كان يكون لأن لذلك لكن إذا ثم أولا ثانيا أخيرا الوقت العمل "
        "الماء الحياة المشكلة الطريقة مهم سهل صعب كل يوم صباحا مساء ابدأ انته زيادة تقليل حافظ تحقق تدرب "
        "اختر استخدم يجب ينبغي ربما جدا قليلا جيد جديد مثال بالطبع آمل ساعد جهز نتيجة سبب جزء جودة اعرف انظر "
        "فكر اعمل اذهب"
    ),
    "fr": (
        "le la les un une des et est dans pour pas que qui sur avec sont ce cette donc mais car si puis "
        "temps travail eau vie problème méthode important facile difficile chaque jour matin soir début fin "
        "augmenter réduire garder vérifier choisir utiliser faut devrait peut très peu bon nouveau exemple "
        "certainement espère aide prépare résultat raison partie qualité savoir voir penser faire aller être"
    ),
    "ru": (
        "и в на с не что это как по из за для но или если потом сначала наконец время работа вода жизнь "
        "проблема способ важно легко трудно каждый день утром вечером начало конец увеличить уменьшить "
        "хранить проверить выбрать использовать нужно следует может очень немного хороший новый пример "
        "конечно надеюсь помощь готовить результат причина часть качество знать видеть думать делать идти "
        "быть"
    ),
    "ko": (
        "그 이 저 것 수 등 및 또는 그리고 하지만 그래서 만약 먼저 다음 마지막 시간 일 물 생활 문제 방법 "
        "중요한 쉬운 어려운 매일 아침 저녁 시작 끝 증가 감소 유지 확인 연습 선택 사용 필요 해야 아마 매우 "
        "조금 좋은 새로운 예를 물론 희망 도움 준비 결과 이유 부분 품질 알다 보다 생각 하다 가다 있다 없다 "
        "되다 주다 받다 같다"
    ),
}
_UNSPACED = ("zh", "ja", "th")
_MARKS = {
    "zh": {", ": "，", ". ": "。", "! ": "！", "? ": "？", ": ": "：", "; ": "；"},
    "ja": {", ": "、", ". ": "。", "! ": "！", "? ": "？", ": ": "：", "; ": "；"},
    "th": {", ": " ", ". ": " "},
    "ar": {",": "،", "?": "؟", ";": "؛"},
}
_ENGLISH = re.compile(r"[A-Za-z][A-Za-z']*")
_COMMON = 4  # letters; longer words become two


def translate(text: str, language: str) -> str:
    """The text in another language of `WORDS`."""
    words = WORDS[language].split()
    gap = "" if language in _UNSPACED else " "

    def say(match: re.Match[str]) -> str:
        word = match[0].lower()
        first, second = blake2b(word.encode(), digest_size=2).digest()
        said = words[first % len(words)]
        said = said if len(word) < _COMMON else said + gap + words[second % len(words)]
        return said if match[0].islower() else said[0].upper() + said[1:]

    said = _ENGLISH.sub(say, text)
    if language in _UNSPACED:
        said = re.sub(r"(?<=[^\x00-\x7f]) (?=[^\x00-\x7f])", "", said)
    for mark, other in _MARKS.get(language, {}).items():
        said = said.replace(mark, other)
        if mark.endswith(" "):
            said = re.sub(re.escape(mark[0]) + "$", other.strip(), said, flags=re.MULTILINE)
    return said


def translate_votes(votes: TrainingData, language: str) -> TrainingData:
    """The votes with prompts and responses in another language."""
    return replace(votes, pairs=translate_pairs(votes.pairs, language))


def translate_pairs(pairs: PairTable, language: str) -> PairTable:
    """The pairs with prompts and responses in another language."""
    prompts, responses = (
        pa.array([translate(text, language) for text in texts.to_pylist()], pa.large_string())
        for texts in (pairs.prompts, pairs.responses)
    )
    return replace(pairs, prompts=prompts, responses=responses)
